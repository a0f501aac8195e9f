// Errors of calls, of verdicts and of buffered writes. All have the same facts.

import { durationMs } from "@bufbuild/protobuf/wkt";
import { ConnectError, Code as ConnectCode } from "@connectrpc/connect";

import { Code, type Error as ErrorMessage } from "./gen/changelogd/v1/changelog_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** As in ChangelogError. */
export interface Facts {
  code: Code;
  message: string;
  reason?: string;
  field?: string;
  retryAfterMs?: number;
  metadata?: Readonly<Record<string, string>>;
}

/** An error of changelogd, or of a library or a proxy on the way to it. */
export class ChangelogError extends Error {
  override readonly name: string = "ChangelogError";
  /** The status code of gRPC. */
  readonly code: Code;
  /** One of the reasons in the API file, or a newer one. Undefined if the error is not of changelogd. */
  readonly reason: string | undefined;
  /** The wrong field of the request. */
  readonly field: string | undefined;
  /** How long to wait before the next attempt, if waiting helps. */
  readonly retryAfterMs: number | undefined;
  /** Facts, such as `limit` and `got`. */
  readonly metadata: Readonly<Record<string, string>>;

  constructor(facts: Facts, options?: ErrorOptions) {
    super(facts.message, options);
    this.code = facts.code;
    this.reason = facts.reason;
    this.field = facts.field;
    this.retryAfterMs = facts.retryAfterMs;
    this.metadata = facts.metadata ?? {};
  }

  /** Says that nothing was written. False if that is not known. */
  get isSafeToRetry(): boolean {
    if (this.reason === undefined) {
      return false;
    }
    switch (this.code) {
      case Code.UNAVAILABLE:
      case Code.RESOURCE_EXHAUSTED:
      case Code.ABORTED:
        return true;
      case Code.DEADLINE_EXCEEDED:
        return this.reason === "DEADLINE";
      default:
        return false;
    }
  }
}

/** A load or a stream ended without the Snapshot of each partition. What it delivered is not the whole state. */
export class PartialLoadError extends ChangelogError {
  override readonly name = "PartialLoadError";

  constructor() {
    super({ code: Code.INTERNAL, message: "the stream ended before its Snapshot" });
  }
}

/** The error that is in a verdict or in the answer of Flush. */
export function errorOfMessage(message: ErrorMessage | undefined): ChangelogError {
  if (message === undefined) {
    return new ChangelogError({ code: Code.UNKNOWN, message: "an error without its message" });
  }
  return new ChangelogError({
    code: message.code,
    message: message.message,
    reason: message.reason || undefined,
    field: message.field || undefined,
    retryAfterMs: message.retryAfter && durationMs(message.retryAfter),
    metadata: message.metadata,
  });
}

/** The error of a call. An error that is not of a call, such as one of the caller's own code, stays as it is. */
export function errorOfCall(error: unknown): unknown {
  if (!(error instanceof ConnectError)) {
    return error;
  }
  // Connect leaves out details that it can't decode. Without a reason the error says nothing about the write.
  const infos = error.findDetails(ErrorInfoSchema);
  const info = infos.find(({ domain, reason }) => domain === "changelogd" && reason !== "");
  const [badRequest] = error.findDetails(BadRequestSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  return new ChangelogError(
    {
      code: codeOf(error),
      message: error.rawMessage,
      reason: info?.reason,
      field: badRequest?.fieldViolations[0]?.field,
      retryAfterMs: retry?.retryDelay && durationMs(retry.retryDelay),
      metadata: info?.metadata,
    },
    { cause: error },
  );
}

function codeOf(error: ConnectError): Code {
  // Both enums have gRPC's numbers.
  return isOfConnection(error) ? Code.UNAVAILABLE : (error.code as number);
}

/** The connection broke. gRPC says UNAVAILABLE then. Connect has several codes, mostly with an error of Node. */
function isOfConnection({ code, metadata, cause }: ConnectError): boolean {
  if (metadata.has("grpc-status")) {
    return false;
  }
  const isOfNode = cause instanceof Error && "code" in cause && typeof cause.code === "string";
  return isOfNode || code === ConnectCode.Canceled || code === ConnectCode.Aborted;
}
