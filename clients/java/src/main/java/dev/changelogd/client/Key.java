package dev.changelogd.client;

import java.nio.charset.StandardCharsets;
import java.util.Objects;

/**
 * Names an entity. Throws an {@link IllegalArgumentException} of a slash in the workspace or the type, and of an
 * unpaired surrogate. The server checks the rest.
 */
public record Key(String workspace, String type, String id) {
    public Key {
        Objects.requireNonNull(id, "id");
        // With a slash here, the text of this key would be split into other parts.
        if (workspace.contains("/") || type.contains("/")) {
            throw new IllegalArgumentException(
                    "a slash in the workspace \"%s\" or the type \"%s\" of a key".formatted(workspace, type));
        }
        checkText(workspace, type, id);
    }

    /** UTF-8 has no unpaired surrogates. With a question mark in its place, the text would name something else. */
    static void checkText(String... texts) {
        for (String text : texts) {
            if (!StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
                throw new IllegalArgumentException("an unpaired surrogate in \"%s\"".formatted(text));
            }
        }
    }

    /** Splits {@code workspace/type/id}. The ID may contain more slashes. */
    public static Key parse(String text) {
        String[] parts = text.split("/", 3);
        if (parts.length != 3) {
            throw new IllegalArgumentException("\"%s\" is not workspace/type/id".formatted(text));
        }
        return new Key(parts[0], parts[1], parts[2]);
    }

    /** The key relative to its workspace: {@code /type/id}. */
    String changelogId() {
        return "/" + type + "/" + id;
    }

    @Override
    public String toString() {
        return workspace + changelogId();
    }
}
