import { useState } from "preact/hooks";
import { apiPath, get } from "../lib/api.js";
import { go, linkTo } from "../lib/router.js";

/** Takes an exact request ID or the ID of an error group, and opens it. */
export function Search() {
  const [said, setSaid] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const q = new FormData(event.target).get("q").trim();
    if (q) setSaid(await open(q, event.target).catch((error) => error.message));
  };
  return (
    <form class="search" role="search" onSubmit={submit}>
      <input name="q" type="search" aria-label="Request ID or error group" placeholder="Request ID or error group" autocomplete="off" spellcheck={false} onInput={() => setSaid("")} />
      <span class="said" role="status">{said}</span>
    </form>
  );
}

async function open(q, form) {
  const found = await get(apiPath("search", { q }));
  if (!found.request_id && !found.error_group) return "Nothing kept has this exact ID.";
  form.reset();
  go(found.request_id ? linkTo.request(found.request_id) : linkTo.error(found.error_group));
  return "";
}
