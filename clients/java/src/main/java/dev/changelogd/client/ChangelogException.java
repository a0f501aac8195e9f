package dev.changelogd.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Why a call or a mutation failed. The API file lists codes and reasons. */
public sealed class ChangelogException extends RuntimeException permits PartialLoadException, ValueException {
    private static final String DOMAIN = "changelogd";

    private final Status.Code code;
    private final String reason;
    private final String field;
    private final Duration retryAfter;
    private final Map<String, String> metadata;

    ChangelogException(dev.changelogd.v1.Error facts, Throwable cause) {
        super(facts.getMessage(), cause);
        code = Status.fromCodeValue(facts.getCodeValue()).getCode();
        reason = facts.getReason();
        field = facts.getField();
        retryAfter = facts.hasRetryAfter()
                ? Duration.ofSeconds(facts.getRetryAfter().getSeconds(), facts.getRetryAfter().getNanos())
                : null;
        metadata = Map.copyOf(facts.getMetadataMap());
    }

    /** An error of this side. It has no reason, because the server did not give one. */
    ChangelogException(Status.Code code, String message, Throwable cause) {
        this(dev.changelogd.v1.Error.newBuilder().setCodeValue(code.value()).setMessage(message).build(), cause);
    }

    /** The error of a verdict, or of a buffered write. */
    static ChangelogException of(dev.changelogd.v1.Error facts) {
        return new ChangelogException(facts, null);
    }

    /** The error of a call. */
    static ChangelogException of(Throwable thrown) {
        if (thrown instanceof ChangelogException known) {
            return known;
        }
        Status status = Status.fromThrowable(thrown);
        var facts = dev.changelogd.v1.Error.newBuilder().setCodeValue(status.getCode().value());
        facts.setMessage(status.getDescription() == null ? "" : status.getDescription());
        for (Any detail : details(thrown)) {
            try {
                addTo(facts, detail);
            } catch (InvalidProtocolBufferException e) {
                // A detail that can't be read is not ours. Without it the error is not safe to retry.
            }
        }
        return new ChangelogException(facts.build(), thrown);
    }

    private static List<Any> details(Throwable thrown) {
        try {
            com.google.rpc.Status status = StatusProto.fromThrowable(thrown);
            return status == null ? List.of() : status.getDetailsList();
        } catch (IllegalArgumentException e) {
            return List.of(); // The trailers hold no google.rpc.Status, or one with another code.
        }
    }

    private static void addTo(dev.changelogd.v1.Error.Builder facts, Any detail)
            throws InvalidProtocolBufferException {
        if (detail.is(ErrorInfo.class)) {
            ErrorInfo info = detail.unpack(ErrorInfo.class);
            if (info.getDomain().equals(DOMAIN)) {
                facts.setReason(info.getReason()).putAllMetadata(info.getMetadataMap());
            }
        } else if (detail.is(BadRequest.class)) {
            detail.unpack(BadRequest.class).getFieldViolationsList().stream()
                    .findFirst().ifPresent(violation -> facts.setField(violation.getField()));
        } else if (detail.is(RetryInfo.class)) {
            facts.setRetryAfter(detail.unpack(RetryInfo.class).getRetryDelay());
        }
    }

    public Status.Code code() {
        return code;
    }

    /** One of the reasons of the API file, or a newer one. Empty if the error is not the server's own. */
    public String reason() {
        return reason;
    }

    /** The wrong field of the request. Empty if no field is wrong. */
    public String field() {
        return field;
    }

    /** How long to wait before the next attempt. Empty if waiting does not help. */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(retryAfter);
    }

    /** Facts, such as {@code limit} and {@code got}. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /** True if nothing was written, or if a read has to start again. False if the outcome is not known. */
    public boolean isSafeToRetry() {
        return !reason.isEmpty() && switch (code) {
            case UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED -> true;
            case DEADLINE_EXCEEDED -> reason.equals("DEADLINE");
            default -> false;
        };
    }

    @Override
    public String toString() {
        return "%s: %s%s: %s".formatted(
                getClass().getName(), code, reason.isEmpty() ? "" : " " + reason, getMessage());
    }
}
