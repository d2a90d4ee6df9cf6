// An OpenID provider with TLS on one address, whose clients get JWT access tokens that name an audience.
//
//   node provider.mjs ISSUER CERTIFICATE KEY JWKS
//
// ISSUER is its URL and says where it listens; JWKS is a file of private keys, of which the first one signs.
// A workload asks for its token as the client `workload` with the secret `secret` and the parameter
// `resource`, which becomes the audience.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { Provider } from 'oidc-provider';

const [issuer, certificate, key, jwks] = process.argv.slice(2);
const provider = new Provider(issuer, {
  jwks: JSON.parse(readFileSync(jwks)),
  clients: [
    {
      client_id: 'workload',
      client_secret: 'secret',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: 'ES256',
    },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        audience: resource,
        scope: '',
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
  extraTokenClaims: () => ({ deployment: { environment: 'production' } }),
});
const { hostname, port } = new URL(issuer);
const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, provider.callback());
server.listen(Number(port), hostname, () => console.log('ready'));
