// Types of what a transform gets and gives. `hookline transform types` writes this
// file; types are for the editor and are not checked when a script is loaded.

declare module "hookline" {
  /** A value of JSON. Whole numbers beyond 2^53 are strings of their digits. */
  export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

  /** What TrialKit sent. Keys that are not named here are kept as they came. */
  export interface Event {
    /** The record. */
    trans_id: string;
    form_id: string;
    form_name?: string;
    OnInsert?: boolean | string | number;
    OnUpdate?: boolean | string | number;
    OnReview?: boolean | string | number;
    /** Review events: the level that was reached. */
    wf_object?: { [key: string]: Json };
    /**
     * The record as TrialKit's API gave it, for routes with `enrich = true`. It is the
     * record when it was read, not when the event happened.
     */
    record?: Json;
    [key: string]: any;
  }

  export type Kind = "insert" | "update" | "review";
  export type Bytes = string | Uint8Array;
  export type Encoding = "hex" | "base64" | "base64url";

  /** One message to be sent; only ctx.message makes it. */
  export interface Message {
    readonly __message: unique symbol;
  }
  /** What ctx.skip and ctx.reject make; it must be returned. */
  export interface Word {
    readonly __word: unique symbol;
  }

  export interface MessageOptions {
    /** Default: application/json for objects, text/plain for strings. */
    contentType?: string;
    /** Sent with the message; a transport may refuse some names. */
    headers?: { [name: string]: string };
    /** Partition, routing or row key, if the transport has one. */
    key?: string;
    /** Appended to the target's path, subject or topic, if the transport has one. */
    path?: string;
  }

  /** A row of a lookup table: the columns of its file. */
  export type Row = { readonly [column: string]: string };

  export interface Table {
    readonly columns: readonly string[];
    readonly rows: readonly Row[];
    /** The first row whose first column is `key`. */
    get(key: string | number): Row | undefined;
    /** The first row whose `column` is `value`. */
    find(column: string, value: string | number): Row | undefined;
    filter(column: string, value: string | number): readonly Row[];
  }

  export interface Context {
    readonly kind: Kind;
    /** Names of the configuration. */
    readonly hook: string;
    readonly route: string;
    readonly study: string;
    readonly stage: "live" | "uat";
    /** The event; the event on this route. */
    readonly eventId: string;
    readonly deliveryId: string;
    /** What a user can read over the phone. */
    readonly ref: string;
    /** When Hookline received the event. The clock stands still during a run. */
    readonly now: Date;

    /** Nothing is to be sent. Return it. */
    skip(why?: string): Word;
    /** The entry is not acceptable; the site's user reads `text`. Return it. */
    reject(text: string): Word;
    /** A message with headers, key, path or content type. Return it, or an array of them. */
    message(payload: unknown, options?: MessageOptions): Message;
    /** A line for you, kept with the delivery; never in Hookline's log. */
    log(...values: unknown[]): void;

    readonly crypto: {
      sha256(data: Bytes, encoding?: Encoding): string;
      /** HMAC with SHA-256 (RFC 2104). */
      hmac(key: Bytes, data: Bytes, encoding?: Encoding): string;
      /** A UUID (version 4 in form) that is the same whenever this delivery runs again. */
      uuid(): string;
    };
    readonly base64: {
      encode(data: Bytes): string;
      /** Without padding, for URLs (RFC 4648 section 5). */
      encodeUrl(data: Bytes): string;
      /** Both alphabets, with or without padding; the bytes must be UTF-8. */
      decode(text: string): string;
      decodeBytes(text: string): Uint8Array;
    };
    readonly date: {
      /**
       * `pattern` as in Unicode's LDML: yyyy-MM-dd'T'HH:mm:ss.SSSXXX, yyyyMMddHHmmss.
       * Default: RFC 3339. `zone` is an IANA name such as "Europe/Berlin"; default "UTC".
       */
      format(date: Date | number, pattern?: string, zone?: string): string;
      /** Throws if `text` does not match. `zone` counts where the text has no offset. */
      parse(text: string, pattern?: string, zone?: string): Date;
    };
    /** A file of the folder `transforms.lookups`: a table for .csv, the value for .json. */
    lookup(file: `${string}.csv`): Table;
    lookup(file: `${string}.json`): any;
    lookup(file: string): any;
    /** A secret that the route grants: `secrets = { name = "env:NAME" }`. */
    secret(name: string): string;
    readonly trialkit: {
      /** Reads from TrialKit's API of this hook: `await ctx.trialkit.get("form/7/435")`. */
      get(path: string): Promise<any>;
    };
  }

  export type Result = Word | Message | Message[] | { [key: string]: unknown } | unknown[] | string | number | boolean;

  /** `export default function (event, ctx) { ... }`, or `const t: Transform = ...`. */
  export type Transform = (event: Event, ctx: Context) => Result | Promise<Result>;
}

/** For files named *.test.ts, run by `hookline transform test`. */
declare module "hookline/test" {
  import type { Context, Event, Transform } from "hookline";

  export interface Given {
    /** Overrides of what ctx has. `now` is fixed at 2026-01-02T03:04:05Z otherwise. */
    ctx?: Partial<Pick<Context, "hook" | "route" | "study" | "stage" | "eventId" | "deliveryId" | "ref" | "now">>;
    secrets?: { [name: string]: string };
    /** Answers of ctx.trialkit.get, by path. */
    trialkit?: { [path: string]: unknown };
  }

  export interface SentMessage {
    contentType: string;
    headers: { [name: string]: string };
    key: string;
    path: string;
    /** Parsed if it is JSON, else text. */
    payload: any;
  }

  export interface Outcome {
    /** What would be sent; empty if skipped or rejected. */
    messages: SentMessage[];
    /** The payload of the only message. */
    payload: any;
    skip?: string;
    reject?: string;
    logs: string[];
  }

  export function test(name: string, body: () => void | Promise<void>): void;
  /** Runs a transform as Hookline would. The event's kind is taken from its flag. */
  export function run(transform: Transform, event: Event, given?: Given): Promise<Outcome>;

  export const assert: {
    ok(value: unknown, message?: string): void;
    equal(actual: unknown, expected: unknown, message?: string): void;
    notEqual(actual: unknown, expected: unknown, message?: string): void;
    deepEqual(actual: unknown, expected: unknown, message?: string): void;
    match(text: string, pattern: RegExp, message?: string): void;
    throws(body: () => void, pattern?: RegExp): void;
    rejects(body: () => Promise<unknown>, pattern?: RegExp): Promise<void>;
  };
}
