package oracle;

import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;

/** How arguments and fields are written on a line. */
final class Codec {
    private Codec() {}

    /** "-" is null, "=" is empty, everything else is base64. */
    static byte[] decode(String word) {
        return switch (word) {
            case "-" -> null;
            case "=" -> new byte[0];
            default -> Base64.getDecoder().decode(word);
        };
    }

    /** In JSON, null is null and empty is "". */
    static String encode(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    /**
     * name=value,name=value; "-" is none. A value may contain commas (cleanup.policy=compact,delete), a name may not.
     */
    static Map<String, String> settings(String word) {
        var settings = new LinkedHashMap<String, String>();
        if (word.equals("-")) {
            return settings;
        }
        String last = null;
        for (var part : word.split(",")) {
            var equals = part.indexOf('=');
            if (equals > 0) {
                last = part.substring(0, equals);
                settings.put(last, part.substring(equals + 1));
            } else if (last != null) {
                settings.merge(last, part, (before, more) -> before + "," + more);
            } else {
                throw new IllegalArgumentException("expected name=value,..., got '" + word + "'");
            }
        }
        return settings;
    }
}
