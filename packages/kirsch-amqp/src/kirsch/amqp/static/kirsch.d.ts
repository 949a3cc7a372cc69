/** Declarations of kirsch.js: rooms over a WebSocket, for pages. */

/** A client in a room; `user` is there where the application has given the user an id. */
export interface Member {
  client: string;
  name: string;
  user?: string;
}

/** `data` comes from others: check it, and put it into a page as text. */
export interface Message {
  room: string;
  client: string;
  name: string;
  user?: string;
  number: number;
  /** Milliseconds since 1970 by the server's clock; null where another program has published it. */
  at: number | null;
  data: unknown;
  offset: number;
  own: boolean;
}

export interface Signal extends Member {
  room: string;
  data: unknown;
}

export interface Unsent {
  room: string;
  number: number;
  data: unknown;
}

export type State = "connecting" | "open" | "waiting" | "closed";

export interface RoomOptions {
  /** Messages that are heard first. */
  last?: number;
  /** False: be told nothing of who comes and goes, nor signals. */
  presence?: boolean;
  /** Ticket of a private room, or a function that gives one each time. */
  ticket?: string | ((room: string) => string | Promise<string>);
}

export interface ClientOptions {
  name?: string;
  /** Any JSON for the application's `authenticate`, or a function that gives it. */
  token?: unknown;
  key?: string;
  number?: number;
  unsent?: Unsent[];
  WebSocket?: typeof WebSocket;
}

export interface RoomEvents {
  message: Message;
  signal: Signal;
  presence: { joined: Member[]; left: Member[] };
  joined: { complete: boolean; again: boolean };
  gap: object;
  left: { room: string; reason: string };
  error: KirschError;
}

export interface ClientEvents {
  state: { state: State; retry?: number };
  welcome: { client: string; name: string; user: string; expires: number | null; broker: boolean };
  broker: { connected: boolean };
  unsent: object;
  error: KirschError;
  closed: { code: number; reason: string };
}

/** `code` is the protocol's, or "closed", "full", "too-large", "away", "token", "ticket". */
export class KirschError extends Error {
  constructor(code: string, reason: string);
  readonly code: string;
}

declare class Emitter<Events> {
  /** Returns a function that takes the listener away again. */
  on<Type extends keyof Events>(type: Type, listener: (detail: Events[Type]) => void): () => void;
}

export class Room extends Emitter<RoomEvents> {
  private constructor();
  readonly name: string;
  readonly offset: number | null;
  readonly stream: string;
  readonly process: string;
  readonly joined: boolean;
  readonly members: ReadonlyMap<string, string>;
  readonly people: ReadonlyMap<string, { name: string; clients: string[] }>;
  readonly count: number;
  readonly more: boolean;
  send(data: unknown): Promise<void>;
  signal(data: unknown): void;
  history(limit?: number): Promise<{ messages: Message[]; more: boolean }>;
  leave(): void;
}

export class KirschClient extends Emitter<ClientEvents> {
  constructor(url: string, options?: ClientOptions);
  readonly key: string;
  readonly number: number;
  readonly name: string;
  readonly client: string;
  readonly user: string;
  readonly state: State;
  readonly broker: boolean;
  readonly unsent: Unsent[];
  readonly unconfirmed: number;
  connect(): void;
  close(): void;
  join(name: string, options?: RoomOptions): Room;
}
