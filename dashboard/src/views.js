// Every view: its name in the URL, its title, and who draws it. A view that has `one` opens with an ID: "#/requests/<id>".
import { Alerts } from "./views/alerts.jsx";
import { OneAlert } from "./views/alert.jsx";
import { OneCheck } from "./views/check.jsx";
import { OneError } from "./views/error.jsx";
import { Errors } from "./views/errors.jsx";
import { Health } from "./views/health.jsx";
import { Llm } from "./views/llm.jsx";
import { Operations } from "./views/operations.jsx";
import { Overview } from "./views/overview.jsx";
import { OneRequest } from "./views/request.jsx";
import { RequestList } from "./views/requests.jsx";
import { OneRoute } from "./views/route.jsx";
import { Routes } from "./views/routes.jsx";
import { System } from "./views/system.jsx";
import { Usage } from "./views/usage.jsx";

export const VIEWS = {
  overview: { title: "Overview", all: Overview },
  routes: { title: "Routes", all: Routes },
  requests: { title: "Requests", all: RequestList, one: OneRequest, oneTitle: "Request" },
  errors: { title: "Errors", all: Errors, one: OneError, oneTitle: "Error group" },
  llm: { title: "LLM", all: Llm },
  usage: { title: "Usage", all: Usage },
  health: { title: "Health", all: Health, one: OneCheck, oneTitle: "Health check" },
  alerts: { title: "Alerts", all: Alerts, one: OneAlert, oneTitle: "Alert" },
  system: { title: "System", all: System },
  route: { title: "Route", all: OneRoute, under: "routes" },
  operations: { title: "Operation", all: Operations, under: "usage" },
};
