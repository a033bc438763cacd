// Tables: rows that open, columns that sort (in the URL), columns that give way on small screens.
import { go, linkHere, parse } from "../lib/router.js";
import { Empty } from "./basics.jsx";

/**
 * columns: {title, cell(row), sort?(row), num?, wide?, grow?, key?}. `wide` columns hide on small screens; `num` align right.
 * The first cell of a row with href(row) is its link; a click anywhere on the row follows it too.
 */
export function Table({ id, caption, columns, rows, href, empty, truncated }) {
  if (!rows.length) return <Empty>{empty ?? "Nothing in this range."}</Empty>;
  const shown = columns.filter(Boolean);
  const sorting = parse().params[`${id}.sort`];
  return (
    <div class="scroll" role="region" aria-label={caption} tabIndex={href ? undefined : 0}>
      <table>
        <caption class="sr">{caption}</caption>
        <thead>
          <tr>{shown.map((column) => <Heading key={column.title} id={id} column={column} sorting={sorting} />)}</tr>
        </thead>
        <tbody>
          {sorted(rows, shown, sorting).map((row, index) => (
            <Row key={row.id ?? row.request_id ?? index} row={row} columns={shown} href={href?.(row)} />
          ))}
        </tbody>
      </table>
      {truncated && <p class="dim more">Only the first {rows.length} are shown. Narrow the range or the filter to see the rest.</p>}
    </div>
  );
}

function classes(column) {
  return [column.num && "num", column.wide && "wide", column.grow && "grow"].filter(Boolean).join(" ") || undefined;
}

function Heading({ id, column, sorting }) {
  if (!id || !column.sort) return <th scope="col" class={classes(column)}>{column.title}</th>;
  const down = `-${column.title}`;
  const direction = sorting === down ? "descending" : sorting === column.title ? "ascending" : undefined;
  return (
    <th scope="col" class={classes(column)} aria-sort={direction}>
      <a class="sort" href={linkHere({ [`${id}.sort`]: sorting === down ? column.title : down })}>
        {column.title}
        {direction && <span aria-hidden="true">{direction === "descending" ? " ↓" : " ↑"}</span>}
      </a>
    </th>
  );
}

function Row({ row, columns, href }) {
  const open = (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.target.closest("a, button, input, summary") || getSelection()?.toString()) return;
    go(href);
  };
  return (
    <tr class={href && "opens"} onClick={href && open}>
      {columns.map((column, index) => (
        <td key={column.title} class={classes(column)}>
          {href && index === 0 ? <a class="open" href={href}>{column.cell(row)}</a> : column.cell(row)}
        </td>
      ))}
    </tr>
  );
}

function sorted(rows, columns, sorting) {
  const column = sorting && columns.find(({ title, sort }) => sort && title === sorting.replace(/^-/, ""));
  if (!column) return rows;
  const sign = sorting.startsWith("-") ? -1 : 1;
  return [...rows].sort((a, b) => sign * compare(column.sort(a), column.sort(b)));
}

function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") return String(a ?? "").localeCompare(String(b ?? ""));
  return (a ?? -Infinity) - (b ?? -Infinity) || 0;
}
