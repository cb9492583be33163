// An issuer of JSON Web Tokens with Node's own cryptography. Each line on stdin is an order, each line on stdout what came
// of it: {"jwks": ["rsa1", …]} gives a key set; {"key", "alg", "header", "claims"} a token, signed as `alg` says.
// `alg` "none" signs nothing; "HS256" signs with the public key as if it were a secret.
import {
  constants,
  createHmac,
  generateKeyPairSync,
  sign,
} from 'node:crypto';
import { createInterface } from 'node:readline';

const pairs = {
  rsa1: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  rsa2: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ec1: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ec2: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ed1: generateKeyPairSync('ed25519'),
};

function jwk(id) {
  return { ...pairs[id].publicKey.export({ format: 'jwk' }), kid: id, use: 'sig' };
}

function signature(alg, { publicKey, privateKey }, text) {
  const data = Buffer.from(text);
  switch (alg) {
    case 'none':
      return Buffer.alloc(0);
    case 'HS256':
      return createHmac('sha256', publicKey.export({ type: 'spki', format: 'pem' })).update(data).digest();
    case 'RS256':
      return sign('sha256', data, privateKey);
    case 'PS256':
      return sign('sha256', data, { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
    case 'ES256':
      return sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
    case 'ES384':
      return sign('sha384', data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
    case 'EdDSA':
      return sign(null, data, privateKey);
    default:
      throw new Error(`unknown algorithm ${alg}`);
  }
}

function token({ key, alg, header, claims }) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${encode({ alg, kid: key, typ: 'at+jwt', ...header })}.${encode(claims)}`;
  return `${text}.${signature(alg, pairs[key], text).toString('base64url')}`;
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  const done = order.jwks ? { keys: order.jwks.map(jwk) } : token(order);
  console.log(JSON.stringify(done));
}
