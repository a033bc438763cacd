import { useState } from "preact/hooks";
import { session } from "../lib/session.js";

/** Asks for the token when the API does not know us. */
export function Login() {
  const [error, setError] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const token = new FormData(event.target).get("token");
    await session.login(token).catch((failed) => setError(failed.status === 401 ? "This token is not the right one." : failed.message));
  };
  return (
    <main class="login" id="main">
      <form onSubmit={submit}>
        <h1>Monitoring</h1>
        <input name="username" value="monitoring" autocomplete="username" hidden readOnly />
        <label>Token<input name="token" type="password" autocomplete="current-password" required /></label>
        <button class="primary">Sign in</button>
        {error && <p class="bad" role="alert">{error}</p>}
        <p class="dim">It is the value of MONITORING_TOKEN on the server.</p>
      </form>
    </main>
  );
}
