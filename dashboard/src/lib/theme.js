// Light or dark: the system's choice, until the reader makes one. Charts draw on canvas and must be told.
import { useEffect, useState } from "preact/hooks";
import { recall, remember } from "./memory.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const changes = new EventTarget();

function current() {
  return document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");
}

export function startTheme() {
  const theme = recall("theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  system.addEventListener("change", () => changes.dispatchEvent(new Event("change")));
}

export function toggleTheme() {
  const theme = current() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  remember("theme", theme);
  changes.dispatchEvent(new Event("change"));
}

export function useTheme() {
  const [theme, setTheme] = useState(current);
  useEffect(() => {
    const follow = () => setTheme(current());
    changes.addEventListener("change", follow);
    return () => changes.removeEventListener("change", follow);
  }, []);
  return theme;
}

/** A colour of the style sheet, such as "--blue", as a canvas understands it. */
export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
