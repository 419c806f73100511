// The API, read from its OpenAPI description.
import {h, table} from './dom.js';

// Describes a schema in one line. A schema that it refers to is described below.
const describe = (schema = {}) => {
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.anyOf) return schema.anyOf.map(describe).join(' or ');
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === 'array') return `list of ${describe(schema.items)}`;
  const ends = [['minimum', '>='], ['exclusiveMinimum', '>'], ['maximum', '<='], ['exclusiveMaximum', '<']]
    .filter(([key]) => schema[key] !== undefined).map(([key, sign]) => `${sign} ${schema[key]}`);
  return [schema.type ?? 'any', ...ends].join(' ');
};

const COLUMNS = ['Name', 'Type', 'Meaning'];
const description = await (await fetch('openapi.json')).json();
document.getElementById('about').textContent = `${description.info.description} Version ${description.info.version}.`;
const list = document.getElementById('operations');
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const parameters = (operation.parameters ?? []).map((p) => [p.name, `${describe(p.schema)}, in ${p.in}`, p.description ?? '']);
    const body = operation.requestBody?.content['application/json']?.schema;
    const yaml = operation.requestBody?.content['application/yaml'] ? ' or YAML' : '';
    const responses = Object.entries(operation.responses).map(([status, response]) => {
      const schema = response.content?.['application/json']?.schema;
      return `${status} ${response.description}${schema ? `: ${describe(schema)}` : ''}`;
    });
    list.append(h('section', {},
      h('h2', {}, `${method.toUpperCase()} ${path}`),
      h('p', {}, operation.description),
      parameters.length > 0 && table(`Parameters of ${method} ${path}`, COLUMNS, parameters),
      body && h('p', {}, `Body: ${describe(body)}, as JSON${yaml}.`),
      h('p', {}, `Responses: ${responses.join('; ')}.`)));
  }
}
list.append(h('h2', {}, 'Request bodies and responses'));
for (const [name, schema] of Object.entries(description.components.schemas)) {
  const fields = Object.entries(schema.properties ?? {}).map(([field, about]) => [field, describe(about), about.description ?? '']);
  list.append(h('h3', {}, name), table(`Fields of ${name}`, COLUMNS, fields));
}
