//! Reads `script.txt`.

/// Whether the order of printed lines counts.
#[derive(Clone, Copy, PartialEq)]
pub enum Order {
    Exact,
    /// Kafka takes it from a hash map.
    Any,
}

/// One command with what must be there for it; without an order: both brokers stop.
pub struct Step {
    pub line: String,
    pub class: &'static str,
    pub args: Vec<String>,
    pub input: String,
    pub files: Vec<(String, String)>,
    pub order: Option<Order>,
}

/// The classes behind Kafka's shell scripts.
const TOOLS: &[(&str, &str)] = &[
    ("acls", "org.apache.kafka.tools.AclCommand"),
    ("broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
    ("client-metrics", "org.apache.kafka.tools.ClientMetricsCommand"),
    ("cluster", "org.apache.kafka.tools.ClusterTool"),
    ("configs", "kafka.admin.ConfigCommand"),
    ("consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("delegation-tokens", "org.apache.kafka.tools.DelegationTokenCommand"),
    ("delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
    ("dump-log", "org.apache.kafka.tools.DumpLogSegments"),
    ("features", "org.apache.kafka.tools.FeatureCommand"),
    ("get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("groups", "org.apache.kafka.tools.GroupsCommand"),
    ("leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
    ("log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
    ("metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
    ("producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
    ("share-groups", "org.apache.kafka.tools.consumer.group.ShareGroupCommand"),
    ("streams-groups", "org.apache.kafka.tools.streams.StreamsGroupCommand"),
    ("topics", "org.apache.kafka.tools.TopicCommand"),
    ("transactions", "org.apache.kafka.tools.TransactionsCommand"),
];

/// The steps of the script.
pub fn read() -> Vec<Step> {
    let (mut steps, mut input, mut files) = (Vec::new(), String::new(), Vec::new());
    for line in include_str!("script.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(text) = line.strip_prefix("< ") {
            input = text.replace("\\n", "\n") + "\n";
        } else if let Some((name, text)) = line.strip_prefix("@ ").and_then(|rest| rest.split_once(' ')) {
            files.push((name.to_owned(), format!("{text}\n")));
        } else {
            steps.push(step(line, std::mem::take(&mut input), std::mem::take(&mut files)));
        }
    }
    steps
}

fn step(line: &str, input: String, files: Vec<(String, String)>) -> Step {
    if line == "! stop" {
        return Step { line: line.to_owned(), class: "", args: Vec::new(), input, files, order: None };
    }
    let (order, command) = match line.strip_prefix("~ ") {
        Some(command) => (Order::Any, command),
        None => (Order::Exact, line),
    };
    let mut words = words(command);
    let tool = words.remove(0);
    let (_, class) = TOOLS.iter().find(|(name, _)| *name == tool).unwrap_or_else(|| panic!("no tool {tool}"));
    Step { line: command.to_owned(), class, args: words, input, files, order: Some(order) }
}

/// Words with blanks between them; `"` keeps blanks.
fn words(line: &str) -> Vec<String> {
    let quoted = line.split('"').enumerate();
    quoted
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}
