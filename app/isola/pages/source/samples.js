// Variables to begin with, and a subscription for each field of the schema's subscription type.
import {
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
  parse,
  print,
  typeFromAST,
} from 'graphql';

const SCALARS = { Int: 0, Float: 0, Boolean: false, JSON: {} };
const FIELDS = 4;

// The variables without which an operation is not valid, as JSON.
export const sampleVariables = (document, schema) => {
  if (!schema) return '';
  const [operation] = parse(document).definitions;
  const required = (operation.variableDefinitions ?? []).filter(
    ({ type, defaultValue }) => type.kind === 'NonNullType' && !defaultValue,
  );
  const values = required.map(({ variable, type }) => [
    variable.name.value,
    sample(typeFromAST(schema, type)),
  ]);
  return values.length ? JSON.stringify(Object.fromEntries(values), null, 2) : '';
};

const sample = (type) => {
  if (isNonNullType(type)) return sample(type.ofType);
  if (isListType(type)) return [sample(type.ofType)];
  if (isEnumType(type)) return type.getValues()[0].name;
  if (!isInputObjectType(type)) return SCALARS[type.name] ?? '';
  const required = Object.values(type.getFields()).filter(
    (field) => isNonNullType(field.type) && field.defaultValue === undefined,
  );
  return Object.fromEntries(required.map((field) => [field.name, sample(field.type)]));
};

// A query that is answered again whenever its response has changed.
const LIVE = {
  name: 'LiveResources',
  kind: 'subscription',
  document: print(parse('query LiveResources @live { resources(first: 5) { totalCount nodes { name kind } } }')),
};

export const subscriptions = (schema) => [...(schema?.getDirective('live') ? [LIVE] : []), ...changes(schema)];

const changes = (schema) =>
  Object.values(schema?.getSubscriptionType()?.getFields() ?? {}).map(({ name, type }) => {
    const fields = getNamedType(type).getFields();
    const shown = Object.values(getNamedType(fields.node?.type)?.getFields?.() ?? {})
      .filter((field) => isLeafType(getNamedType(field.type)) && !field.args.length)
      .slice(0, FIELDS)
      .map((field) => field.name);
    const node = shown.length ? `node { ${shown.join(' ')} }` : '';
    const title = name[0].toUpperCase() + name.slice(1);
    return { name: title, kind: 'subscription', document: print(parse(`subscription ${title} { ${name} { kind id cursor ${node} } }`)) };
  });
