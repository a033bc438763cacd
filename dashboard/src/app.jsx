import "uplot/dist/uPlot.min.css";
import "./app.css";
import { render } from "preact";
import { link } from "./lib/router.js";
import { startTheme } from "./lib/theme.js";
import { Shell } from "./parts/shell.jsx";

startTheme();
if (!location.hash) history.replaceState(null, "", link("overview"));
render(<Shell />, document.getElementById("app"));
