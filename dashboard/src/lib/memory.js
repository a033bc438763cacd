// What the browser keeps for this page; a browser that keeps nothing is fine too.
export function recall(name) {
  try {
    return localStorage.getItem(`monitoring-${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`monitoring-${name}`, value);
  } catch {
    // Kept until the page is closed, then.
  }
}
