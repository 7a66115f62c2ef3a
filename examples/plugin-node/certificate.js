'use strict';
// AutoMTLS: the plugin's own certificate, for the life of this process. Node can
// make keys and signatures but no certificates, so the few fields that one needs are
// written out here (RFC 5280, DER).
const crypto = require('node:crypto');

function der(tag, ...parts) {
  const body = Buffer.concat(parts);
  if (body.length < 128) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const bytes = [];
  for (let n = body.length; n > 0; n >>= 8) bytes.unshift(n & 0xff);
  return Buffer.concat([Buffer.from([tag, 0x80 | bytes.length, ...bytes]), body]);
}

const seq = (...parts) => der(0x30, ...parts);
const oid = (hex) => der(0x06, Buffer.from(hex, 'hex'));
const time = (date) => der(0x17, Buffer.from(date.toISOString().replace(/[-:T]/g, '').slice(2, 14) + 'Z'));

// localhost is the name that go-plugin expects.
const host = Buffer.from('localhost');

// make returns a certificate signed by itself: {cert, key} in PEM, der as bytes.
function make() {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = seq(oid('2a8648ce3d040302')); // ecdsa-with-SHA256
  const name = seq(der(0x31, seq(oid('550403'), der(0x0c, host)))); // CN
  const serial = crypto.randomBytes(16);
  serial[0] = (serial[0] & 0x7f) | 0x40; // positive, and never with a zero in front
  const day = 24 * 60 * 60 * 1000;
  const validity = seq(time(new Date(Date.now() - day)), time(new Date(Date.now() + 365 * 20 * day)));
  const extensions = der(0xa3, seq(
    seq(oid('551d13'), der(0x01, Buffer.from([0xff])), der(0x04, seq(der(0x01, Buffer.from([0xff]))))), // CA: it is its own
    seq(oid('551d11'), der(0x04, seq(der(0x82, host)))), // subjectAltName
  ));
  const tbs = seq(
    der(0xa0, der(0x02, Buffer.from([2]))), der(0x02, serial), algorithm, name, validity, name,
    publicKey.export({ type: 'spki', format: 'der' }), extensions,
  );
  const signature = crypto.sign('sha256', tbs, privateKey);
  const bytes = seq(tbs, algorithm, der(0x03, Buffer.from([0]), signature));
  const pem = bytes.toString('base64').replace(/(.{64})(?!$)/g, '$1\n');
  return {
    der: bytes,
    cert: `-----BEGIN CERTIFICATE-----\n${pem}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
}

module.exports = { make };
