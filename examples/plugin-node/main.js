#!/usr/bin/env node
'use strict';
// A transport that posts each message to a URL.
const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const { serve } = require('./plugin');

const maxBody = 1 << 20;
const receipt = (effect, code, detail = '') => ({ effect, code, detail });

class Post {
  describe() {
    return {
      name: 'node', version: '1.0.0',
      settings: {
        type: 'object', additionalProperties: false, required: ['url'],
        properties: {
          url: { type: 'string', description: 'where to post to' },
          token: { type: 'string', writeOnly: true, description: 'sent as a bearer token' },
        },
      },
    };
  }

  // configure returns what is wrong, by field. It does not look for the target, which
  // may be down.
  configure(settings) {
    try {
      this.url = new URL(settings.url);
    } catch {
      this.url = { protocol: '' };
    }
    if (this.url.protocol !== 'http:' && this.url.protocol !== 'https:') {
      return [{ field: 'url', rule: 'must be an address such as https://example.org/in' }];
    }
    this.token = settings.token;
    this.http = this.url.protocol === 'https:' ? https : http;
    this.agent = new this.http.Agent({ keepAlive: true });
    return [];
  }

  // deliver makes one attempt and says what surely happened. signal is its deadline.
  async deliver(message, signal) {
    if (signal.aborted) return receipt('none', 'timeout', 'nothing was sent');
    return new Promise((resolve) => {
      const headers = { 'content-type': message.content_type, 'content-length': message.payload.length, 'webhook-id': message.message_id };
      if (this.token) headers.authorization = `Bearer ${this.token}`;
      const request = this.http.request(this.url, { method: 'POST', agent: this.agent, headers });
      let connected = false;
      const stop = () => request.destroy(new Error('deadline'));
      const done = (r) => {
        signal.removeEventListener('abort', stop);
        resolve(r);
      };
      signal.addEventListener('abort', stop);
      request.on('socket', (socket) => {
        if (!socket.connecting) connected = true;
        socket.once('connect', () => { connected = true; });
      });
      request.on('error', (err) => {
        const effect = connected ? 'unknown' : 'none';
        if (signal.aborted) return done(receipt(effect, 'timeout', 'no answer by the deadline'));
        if (!connected && err.code === 'ENOTFOUND') return done(receipt(effect, 'dns_error', 'the host is not known'));
        if (!connected) return done(receipt(effect, 'connection_refused', `no connection (${err.code})`));
        return done(receipt(effect, 'connection_reset', `the connection broke (${err.code})`));
      });
      request.on('response', (answer) => {
        const parts = [];
        let size = 0;
        answer.on('data', (part) => {
          if (size < maxBody) parts.push(part.subarray(0, maxBody - size));
          size += part.length;
        });
        answer.on('error', () => done(receipt('unknown', 'connection_reset', 'the answer broke off')));
        answer.on('end', () => done({
          ...this.verdict(answer.statusCode), targetStatus: answer.statusCode,
          contentType: answer.headers['content-type'], body: Buffer.concat(parts), truncated: size > maxBody,
        }));
      });
      request.end(message.payload);
    });
  }

  verdict(status) {
    if (status < 300) return receipt('done', 'delivered');
    if (status < 400) return receipt('none', 'redirect_refused');
    if (status === 401 || status === 403) return receipt('none', 'unauthorized_by_target');
    if (status === 404) return receipt('none', 'not_found_at_target');
    if (status === 429 || status === 503) return receipt('none', 'throttled_by_target');
    if (status >= 500) return receipt('unknown', 'target_error');
    return receipt('none', 'rejected_by_target');
  }

  check(signal) {
    return new Promise((resolve) => {
      const port = this.url.port || (this.url.protocol === 'https:' ? 443 : 80);
      const socket = net.connect({ host: this.url.hostname.replace(/[[\]]/g, ''), port, signal });
      socket.on('connect', () => { socket.destroy(); resolve(receipt('done', 'delivered')); });
      socket.on('error', (err) => resolve(receipt('none', signal.aborted ? 'timeout' : 'connection_refused', `no connection (${err.code})`)));
    });
  }

  close() {
    if (this.agent) this.agent.destroy();
  }
}

serve(new Post());
