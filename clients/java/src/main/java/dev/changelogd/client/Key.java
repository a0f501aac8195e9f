package dev.changelogd.client;

import java.util.Objects;

/** Names an entity. The server checks the grammar of the parts. */
public record Key(String workspace, String type, String id) {
    public Key {
        Objects.requireNonNull(id, "id");
        // With a slash here, the text of this key would be split into other parts.
        if (workspace.contains("/") || type.contains("/")) {
            throw new IllegalArgumentException(
                    "a slash in the workspace \"%s\" or the type \"%s\" of a key".formatted(workspace, type));
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
