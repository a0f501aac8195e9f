package dev.changelogd.client;

/** A value that knows its key. */
public interface Entity {
    /** Its name has no {@code get}, so that Jackson does not take it for a part of the value. */
    Key changelogKey();

    /** The bytes to store. By default they are the entity as JSON. */
    default byte[] changelogValue() {
        return Json.encode(this);
    }
}
