package oracle;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

/** How fast a client may read or write. Answers when the broker shows it. */
final class Quotas {
    private static final long VISIBLE_WITHIN_MS = 15_000;

    private Quotas() {}

    static ObjectNode set(String bootstrap, String clientId, String quota, double bound) throws Exception {
        var entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, clientId));
        var wanted = new ClientQuotaAlteration(entity, List.of(new ClientQuotaAlteration.Op(quota, bound)));
        var filter = ClientQuotaFilter.contains(
                List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, clientId)));
        try (var admin = Topics.admin(bootstrap)) {
            admin.alterClientQuotas(List.of(wanted)).all().get();
            var deadline = System.nanoTime() + VISIBLE_WITHIN_MS * 1_000_000;
            while (!Map.of(entity, Map.of(quota, bound))
                    .equals(admin.describeClientQuotas(filter).entities().get())) {
                if (System.nanoTime() > deadline) {
                    throw new TimeoutException("the broker did not show " + wanted + " in time");
                }
                Thread.sleep(10);
            }
            return Oracle.ok();
        }
    }
}
