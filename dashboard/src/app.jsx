import "uplot/dist/uPlot.min.css";
import "./app.css";
import { render } from "preact";
import { startTheme } from "./lib/theme.js";
import { Shell } from "./parts/shell.jsx";

startTheme();
render(<Shell />, document.getElementById("app"));
