import java.util.*;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.server.config.AbstractKafkaConfig;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.server.config.ServerTopicConfigSynonyms;
import org.apache.kafka.server.metrics.ClientMetricsConfigs;
import org.apache.kafka.storage.internals.log.LogConfig;

/**
 * Prints the facts of every configuration key: scope, name, type, default, validator, how it may be changed, synonyms.
 * A null default is printed as \N; the text of documentation is not printed.
 */
public class ConfigTable {
    public static void main(String[] args) {
        print("topic", LogConfig.configDefCopy());
        print("broker", AbstractKafkaConfig.CONFIG_DEF);
        print("group", GroupConfig.CONFIG_DEF);
        print("client-metrics", ClientMetricsConfigs.configDef());
    }

    private static void print(String scope, ConfigDef def) {
        Map<String, String> modes = DynamicBrokerConfig.dynamicConfigUpdateModes();
        for (ConfigDef.ConfigKey key : new TreeMap<>(def.configKeys()).values()) {
            Object value = key.hasDefault() ? key.defaultValue : null;
            String text = value == null ? "\\N" : ConfigDef.convertToString(value, key.type);
            String mode = scope.equals("broker") ? modes.getOrDefault(key.name, "read-only") : "dynamic";
            String synonyms = "";
            if (scope.equals("topic")) {
                String synonym = ServerTopicConfigSynonyms.TOPIC_CONFIG_SYNONYMS.get(key.name);
                if (synonym != null) synonyms = String.join(",", DynamicBrokerConfig.brokerConfigSynonyms(synonym, true));
            } else if (scope.equals("broker")) {
                List<String> all = DynamicBrokerConfig.brokerConfigSynonyms(key.name, true);
                if (all.size() > 1) synonyms = String.join(",", all);
            } else if (scope.equals("group")) {
                synonyms = GroupConfig.brokerSynonym(key.name).orElse("");
            }
            String validator = key.validator == null ? "" : key.validator.toString().replaceAll("@[0-9a-f]+|/0x[0-9a-f]+", "").replaceAll("\\$\\$Lambda\\S*", "\\$lambda");
            String kind = key.internalConfig ? "internal" : "public";
            System.out.println(String.join("\t", scope, key.name, key.type.name(), text, validator, mode, synonyms, kind).replace("\n", " "));
        }
    }
}
