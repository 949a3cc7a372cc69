// Elements, made by functions: nothing here takes HTML as text.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element of HTML: h("a", { href: "#/", onclick: act }, "text", child). */
export const h = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const s = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

/** Set a text only where it differs: screen readers hear of no change that is none. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make the children of an element those of `rows`, by key: what stays is moved or kept, and not made anew. */
export function keyed(parent, rows, key, make, update) {
  const there = new Map([...parent.children].map((child) => [child.key, child]));
  let place = parent.firstElementChild;
  for (const row of rows) {
    const name = key(row);
    let child = there.get(name);
    if (child) there.delete(name);
    else {
      child = make(row);
      child.key = name;
    }
    update(child, row);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of there.values()) child.remove();
}
