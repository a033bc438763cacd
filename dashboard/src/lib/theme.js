// Light or dark: the system's choice, until the reader makes one. Charts draw on canvas and must be told.
import { useEffect, useState } from "preact/hooks";

const KEY = "monitoring-theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const changes = new EventTarget();

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function current() {
  return document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");
}

export function startTheme() {
  const theme = chosen();
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  system.addEventListener("change", () => changes.dispatchEvent(new Event("change")));
}

export function toggleTheme() {
  const theme = current() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // A browser that keeps nothing still shows the theme until the page is closed.
  }
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
