//! What `bowline config` prints: the settings in force and where each came from.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{Loaded, Source};

impl Loaded {
    /// A table for people: setting, value, source.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(["SETTING", "VALUE", "FROM"]);
        for entry in &self.entries {
            table.add_row([
                entry.name.clone(),
                entry.value.clone(),
                entry.source.to_string(),
            ]);
        }
        let file = match &self.file {
            Some(path) => format!("settings file: {}", path.display()),
            None => "settings file: none".to_owned(),
        };
        let lines = table.lines().map(|line| line.trim_end().to_owned());
        lines
            .chain([String::new(), file])
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The same for programs: `{"file": …, "settings": {"log.level": {"value": …, "from": …}}}`.
    /// `from` is an object whose `source` is `default`, `file`, `environment` or `flag`.
    #[must_use]
    pub fn json(&self) -> Value {
        let settings = self.entries.iter().map(|entry| {
            let from = match &entry.source {
                Source::Default => json!({ "source": "default" }),
                Source::File(path, line) => {
                    json!({ "source": "file", "file": path.display().to_string(), "line": line })
                }
                Source::Environment(name) => json!({ "source": "environment", "variable": name }),
                Source::Flag(name) => json!({ "source": "flag", "flag": format!("--{name}") }),
            };
            (
                entry.name.clone(),
                json!({ "value": entry.json, "from": from }),
            )
        });
        json!({
            "file": self.file.as_ref().map(|path| path.display().to_string()),
            "settings": settings.collect::<serde_json::Map<_, _>>(),
        })
    }
}
