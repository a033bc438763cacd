import { isCustom, PRESETS, rangeInWords } from "../lib/range.js";
import { linkHere } from "../lib/router.js";

/** The time range of all cards, as links: the back button undoes a choice. */
export function RangePicker({ range }) {
  const words = rangeInWords(range);
  return (
    <nav class="range" aria-label="Time range">
      {isCustom(range) && (
        <a class="custom" href={linkHere({ from: "-1h", to: "now" })} aria-current="true" title={`${words.title}. Opens the last hour.`}>
          {words.text} <span aria-hidden="true">×</span><span class="sr"> back to the last hour</span>
        </a>
      )}
      {PRESETS.map(([from, text]) => (
        <a key={from} href={linkHere({ from, to: "now" })} aria-current={!isCustom(range) && range.from === from ? "true" : undefined}><span class="sr">last </span>{text}</a>
      ))}
    </nav>
  );
}
