// PostGraphile 5 over the tables of the strategy `rls`, as its documentation sets it up: the amber preset, settings of
// PostgreSQL from a token, and row-level security for all that a user may see.
import { createServer } from "node:http";
import jsonwebtoken from "jsonwebtoken";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafserv } from "postgraphile/grafserv/node";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { jsonPgSmartTags } from "postgraphile/utils";

const { PEER_PORT, PEER_SECRET, PEER_HOST, PEER_DATABASE, PEER_POOL } = process.env;

// Names that read like the other peers', and keys without the tenant, which every policy names anyway.
const names = jsonPgSmartTags({
  version: 1,
  config: {
    class: {
      "rls.resources": { tags: { unique: "id" } },
    },
    constraint: {
      "rls.resources.fk_resources_owner_id": { tags: { fieldName: "owner" } },
      "rls.spans.fk_spans_author_id": { tags: { fieldName: "author" } },
      "rls.spans.fk_spans_resource_id": { tags: { foreignFieldName: "spans" } },
    },
  },
});

// The other peers remember tokens that they verified, so this one does too.
const verified = new Map();

function claims(authorization) {
  const token = authorization?.startsWith("Bearer ") ? authorization.slice(7) : "";
  let known = verified.get(token);
  if (known === undefined || known.exp * 1000 <= Date.now()) {
    known = jsonwebtoken.verify(token, PEER_SECRET, { algorithms: ["HS256"], audience: "isola", issuer: "isola" });
    if (verified.size >= 10_000) verified.delete(verified.keys().next().value);
    verified.set(token, known);
  }
  return known;
}

const preset = {
  extends: [PostGraphileAmberPreset],
  plugins: [names],
  pgServices: [
    makePgService({
      poolConfig: {
        host: PEER_HOST,
        port: 5432,
        database: PEER_DATABASE,
        user: "peer_postgraphile",
        max: Number(PEER_POOL),
      },
      schemas: ["rls"],
    }),
  ],
  grafserv: { graphiql: false, watch: false, websockets: false },
  grafast: {
    explain: false,
    context({ node }) {
      const { tenant, sub } = claims(node.req.headers.authorization);
      // The database makes the proof: see visitor.sql.
      return { pgSettings: { "isola.tenant": tenant, "isola.proof": tenant, "peer.user": sub } };
    },
  },
};

const server = createServer();
server.keepAliveTimeout = 60_000;
const instance = postgraphile(preset);
await instance.createServ(grafserv).addTo(server);
server.listen(Number(PEER_PORT), "127.0.0.1");
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, async () => {
    server.close();
    server.closeAllConnections();
    await instance.release();
    process.exit(0);
  });
}
