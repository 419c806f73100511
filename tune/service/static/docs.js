// The API, read from its OpenAPI description.
const made = (tag, text, ...children) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};

// A schema in a line; what it refers to is described once, below.
const told = (schema = {}) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(told).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${told(schema.items)}`;
  const ends = [["minimum", ">="], ["exclusiveMinimum", ">"], ["maximum", "<="], ["exclusiveMaximum", "<"]]
    .filter(([key]) => schema[key] !== undefined).map(([key, sign]) => `${sign} ${schema[key]}`);
  return [schema.type ?? "any", ...ends].join(" ");
};

const table = (caption, rows) => {
  const body = made("tbody");
  for (const [name, type, text] of rows) {
    const head = made("th", name);
    head.scope = "row";
    body.append(made("tr", "", head, made("td", type), made("td", text ?? "")));
  }
  const region = made("div", "", made("table", "", made("caption", caption), body));
  region.className = "wide";
  region.tabIndex = 0;
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", caption);
  return region;
};

const description = await (await fetch("openapi.json")).json();
document.getElementById("about").textContent = `${description.info.description} Version ${description.info.version}.`;
const list = document.getElementById("operations");
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const section = made("section", "", made("h2", `${method.toUpperCase()} ${path}`), made("p", operation.description));
    const rows = (operation.parameters ?? []).map((p) => [p.name, `${told(p.schema)}, in ${p.in}`, p.description]);
    if (rows.length) section.append(table(`Parameters of ${method} ${path}`, rows));
    const body = operation.requestBody?.content["application/json"]?.schema;
    if (body) section.append(made("p", `Body: ${told(body)}, as JSON${operation.requestBody.content["application/yaml"]
      ? " or YAML" : ""}.`));
    section.append(made("p", `Answers: ${Object.entries(operation.responses).map(([status, answer]) => {
      const schema = answer.content?.["application/json"]?.schema;
      return `${status} ${answer.description}${schema ? `: ${told(schema)}` : ""}`;
    }).join("; ")}.`));
    list.append(section);
  }
}
list.append(made("h2", "Bodies and answers"));
for (const [name, schema] of Object.entries(description.components.schemas)) {
  const rows = Object.entries(schema.properties ?? {}).map(([field, about]) => [field, told(about), about.description]);
  list.append(made("h3", name), table(`Fields of ${name}`, rows));
}
