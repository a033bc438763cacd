// Whether the API let us in. One 401 anywhere shows the login form; one login wakes every poll.
import { useEffect, useState } from "preact/hooks";
import { send } from "./api.js";
import { recall, remember } from "./memory.js";

let state = { locked: false, logins: 0 };
const listeners = new Set();

function change(news) {
  state = { ...state, ...news };
  for (const listener of listeners) listener(state);
}

function useSession() {
  const [now, setNow] = useState(state);
  useEffect(() => {
    setNow(state);
    listeners.add(setNow);
    return () => listeners.delete(setNow);
  }, []);
  return now;
}

export const session = {
  useLocked: () => useSession().locked,
  useCount: () => useSession().logins,
  useSignedIn: () => useSession().logins > 0 || recall("signed-in") === "yes",
  lost() {
    if (!state.locked) change({ locked: true });
  },
  async login(token) {
    await send("POST", "login", { token });
    remember("signed-in", "yes");
    change({ locked: false, logins: state.logins + 1 });
  },
  async logout() {
    await send("POST", "logout");
    remember("signed-in", "no");
    change({ locked: true, logins: 0 });
  },
};
