import { useEditorContext, useSchemaStore } from '@graphiql/react';
import { useEffect, useState } from 'react';
import { sampleVariables, subscriptions } from './samples.js';

const KINDS = [
  ['query', 'Queries'],
  ['mutation', 'Mutations'],
  ['subscription', 'Subscriptions'],
];

// The server's operations; null while they are loading.
export const useOperations = () => {
  const [operations, setOperations] = useState(null);
  useEffect(() => {
    fetch('/assets/operations.json')
      .then((response) => response.json())
      .then(setOperations, () => setOperations([]));
  }, []);
  return operations;
};

// Opens an operation in the current tab if that is empty, and else in a new one.
export const useOpening = () => {
  const { addTab, queryEditor, variableEditor } = useEditorContext({ nonNull: true });
  const schema = useSchemaStore((store) => store.schema);
  return ({ document }) => {
    const isBlank = queryEditor.getValue().split('\n').every((line) => !line.trim() || line.startsWith('#'));
    if (!isBlank) addTab();
    // A new tab first empties the editors.
    setTimeout(() => {
      queryEditor.setValue(document);
      variableEditor?.setValue(sampleVariables(document, schema));
      queryEditor.focus();
    });
  };
};

const Icon = () => (
  <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round">
    <path d="M4 5h10M4 10h16M4 15h7M4 20h13" />
  </svg>
);

const Content = () => {
  const operations = useOperations();
  const schema = useSchemaStore((store) => store.schema);
  const open = useOpening();
  const [wanted, setWanted] = useState('');
  const shown = [...(operations ?? []), ...subscriptions(schema)].filter(({ name }) =>
    name.toLowerCase().includes(wanted.trim().toLowerCase()),
  );
  return (
    <div className="isola-examples">
      <div className="graphiql-doc-explorer-title">Examples</div>
      <p>The operations that this server knows from its start, and a subscription for each subject.</p>
      <input type="search" placeholder="Filter" aria-label="Filter examples" value={wanted} onChange={(event) => setWanted(event.target.value)} />
      {KINDS.map(([kind, title]) => {
        const group = shown.filter((each) => each.kind === kind);
        return (
          group.length > 0 && (
            <section key={kind}>
              <h3>{title}</h3>
              <ul>
                {group.map((each) => (
                  <li key={each.name}>
                    <button type="button" onClick={() => open(each)}>{each.name}</button>
                  </li>
                ))}
              </ul>
            </section>
          )
        );
      })}
      {operations && shown.length === 0 && <p>No example has this in its name.</p>}
    </div>
  );
};

export const EXAMPLES = { title: 'Examples', icon: Icon, content: Content };
