// The API, read from its OpenAPI description.
import {h, table} from './dom.js';

// A schema in a line; what it refers to is described once, below.
const told = (schema = {}) => {
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.anyOf) return schema.anyOf.map(told).join(' or ');
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === 'array') return `list of ${told(schema.items)}`;
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
    const parameters = (operation.parameters ?? []).map((p) => [p.name, `${told(p.schema)}, in ${p.in}`, p.description ?? '']);
    const body = operation.requestBody?.content['application/json']?.schema;
    const yaml = operation.requestBody?.content['application/yaml'] ? ' or YAML' : '';
    const answers = Object.entries(operation.responses).map(([status, answer]) => {
      const schema = answer.content?.['application/json']?.schema;
      return `${status} ${answer.description}${schema ? `: ${told(schema)}` : ''}`;
    });
    list.append(h('section', {},
      h('h2', {}, `${method.toUpperCase()} ${path}`),
      h('p', {}, operation.description),
      parameters.length > 0 && table(`Parameters of ${method} ${path}`, COLUMNS, parameters),
      body && h('p', {}, `Body: ${told(body)}, as JSON${yaml}.`),
      h('p', {}, `Answers: ${answers.join('; ')}.`)));
  }
}
list.append(h('h2', {}, 'Bodies and answers'));
for (const [name, schema] of Object.entries(description.components.schemas)) {
  const fields = Object.entries(schema.properties ?? {}).map(([field, about]) => [field, told(about), about.description ?? '']);
  list.append(h('h3', {}, name), table(`Fields of ${name}`, COLUMNS, fields));
}
