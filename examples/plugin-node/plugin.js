'use strict';
// What every plugin in JavaScript needs, and no transport: go-plugin's handshake with
// AutoMTLS, the end with the host, and the contract's service on top of an object with
// describe, configure, deliver, check and close. Take it along as it is.
const net = require('node:net');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const certificate = require('./certificate');

const proto = grpc.loadPackageDefinition(loader.loadSync(path.join(__dirname, 'transport.proto'), {
  keepCase: true, longs: String, enums: String, defaults: true, oneofs: true,
}));
const maxMessage = 32 << 20;

// log writes a line that becomes Hookline's log. Ids, never contents.
function log(level, msg, fields = {}) {
  process.stderr.write(JSON.stringify({ level, msg, ...fields }) + '\n');
}

const milliseconds = (d) => (d ? Number(d.seconds) * 1000 + d.nanos / 1e6 : undefined);
const duration = (ms) => (ms > 0 ? { seconds: Math.floor(ms / 1000), nanos: Math.round((ms % 1000) * 1e6) } : undefined);

const receiptOf = (r) => ({
  effect: { none: 'EFFECT_NONE', done: 'EFFECT_DONE' }[r.effect] || 'EFFECT_UNKNOWN',
  code: r.code, target_status: r.targetStatus || 0, content_type: r.contentType || '', body: r.body || Buffer.alloc(0),
  truncated: !!r.truncated, detail: r.detail || '', retry_after: duration(r.retryAfter), target_took: duration(r.targetTook),
});

// attempt runs one call under its deadline; abort ends it earlier.
async function attempt(timeout, abort, run) {
  const timer = timeout === undefined ? undefined : setTimeout(() => abort.abort(), Math.max(0, timeout));
  if (timeout !== undefined && timeout <= 0) abort.abort();
  try {
    return receiptOf(await run(abort.signal));
  } finally {
    clearTimeout(timer);
  }
}

// failed answers a call on which the transport broke. Not with the error: it may
// quote the message.
function failed(err, callback) {
  log('ERROR', 'the plugin failed on a call', { at: String(err && err.stack).split('\n')[1] });
  callback({ code: grpc.status.INTERNAL, message: 'the plugin failed on the call' });
}

function service(transport) {
  const deliver = (request, abort) => attempt(milliseconds(request.timeout), abort, (signal) => transport.deliver(request, signal));
  return {
    Describe(call, callback) {
      const d = transport.describe();
      callback(null, {
        name: d.name, version: d.version, idempotent: !!d.idempotent, exclusive: !!d.exclusive,
        max_in_flight: d.maxInFlight || 0, settings_schema: Buffer.from(JSON.stringify(d.settings)), stream: true,
      });
    },
    async Configure(call, callback) {
      try {
        const errors = await transport.configure(JSON.parse(call.request.settings.toString()));
        callback(null, { errors: errors || [] });
      } catch (err) {
        failed(err, callback);
      }
    },
    async Deliver(call, callback) {
      const abort = new AbortController();
      call.on('cancelled', () => abort.abort());
      try {
        callback(null, { receipt: await deliver(call.request, abort) });
      } catch (err) {
        failed(err, callback);
      }
    },
    // Stream carries many calls, each with a number. They are answered in any order.
    Stream(stream) {
      const calls = new Map();
      stream.on('data', async (frame) => {
        if (frame.frame !== 'deliver') {
          if (calls.has(frame.call)) calls.get(frame.call).abort();
          return;
        }
        const abort = new AbortController();
        calls.set(frame.call, abort);
        let receipt;
        try {
          receipt = await deliver(frame.deliver, abort);
        } catch (err) {
          failed(err, () => {}); // an answer without a receipt says so
        }
        calls.delete(frame.call);
        stream.write({ call: frame.call, receipt });
      });
      const end = () => {
        for (const abort of calls.values()) abort.abort();
        stream.end();
      };
      stream.on('end', end);
      stream.on('cancelled', end);
      stream.on('error', end);
    },
    async Check(call, callback) {
      const abort = new AbortController();
      call.on('cancelled', () => abort.abort());
      try {
        callback(null, { receipt: await attempt(milliseconds(call.request.timeout), abort, (signal) => transport.check(signal)) });
      } catch (err) {
        failed(err, callback);
      }
    },
  };
}

// bare is one call of another service, in bytes.
const bare = (name, answer) => ({
  path: name, requestStream: false, responseStream: false,
  requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: () => answer, responseDeserialize: (b) => b,
});

// endWithHost makes this process exit when its host is gone, however it died.
function endWithHost() {
  const fd = Number(process.env.HOOKLINE_HOST_PIPE);
  if (!Number.isInteger(fd) || fd < 3) return;
  const gone = () => {
    log('WARN', 'the host is gone, ending');
    process.exit(1);
  };
  // As a socket: a file stream would block a thread in read, and with it the exit.
  new net.Socket({ fd, readable: true, writable: false }).on('end', gone).on('error', gone).resume();
}

// serve runs the transport as a plugin process.
function serve(transport) {
  if (process.env.HOOKLINE_PLUGIN !== 'b1e5b2a4-transport') {
    process.stderr.write('This is a plugin: Hookline starts it.\n');
    process.exit(1);
  }
  console.log = console.info = console.error; // standard output carries the handshake and nothing else
  process.on('SIGINT', () => {}); // a Ctrl-C for Hookline reaches its children too; it ends them in order
  endWithHost();

  const server = new grpc.Server({ 'grpc.max_receive_message_length': maxMessage, 'grpc.max_send_message_length': maxMessage });
  server.addService(proto.hookline.transport.v1.TransportService.service, service(transport));
  server.addService({ Check: bare('/grpc.health.v1.Health/Check', Buffer.from([0x08, 0x01])) }, {
    Check: (call, callback) => callback(null, {}), // SERVING
  });
  server.addService({ Shutdown: bare('/plugin.GRPCController/Shutdown', Buffer.alloc(0)) }, {
    Shutdown: (call, callback) => {
      callback(null, {});
      setImmediate(async () => {
        if (transport.close) await transport.close();
        server.forceShutdown();
        process.exit(0);
      });
    },
  });

  let credentials = grpc.ServerCredentials.createInsecure();
  let mine = '';
  if (process.env.PLUGIN_CLIENT_CERT) {
    const own = certificate.make();
    mine = own.der.toString('base64').replace(/=+$/, '');
    credentials = grpc.ServerCredentials.createSsl(Buffer.from(process.env.PLUGIN_CLIENT_CERT),
      [{ cert_chain: Buffer.from(own.cert), private_key: Buffer.from(own.key) }], true);
  }
  const socket = path.join(process.env.PLUGIN_UNIX_SOCKET_DIR || '/tmp', `plugin-${process.pid}`);
  server.bindAsync(`unix:${socket}`, credentials, (err) => {
    if (err) {
      process.stderr.write(`${err.message}\n`);
      process.exit(1);
    }
    process.stdout.write(`1|1|unix|${socket}|grpc|${mine}\n`);
  });
}

module.exports = { serve, log };
