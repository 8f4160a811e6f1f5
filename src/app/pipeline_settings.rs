//! Translates the configuration into the settings of the pipeline.
//!
//! The pipeline never sees the whole [`Config`]. It refers to sources and processors by index, so
//! the names in routes are resolved here.

use crate::pipeline::settings::{
    InvocationLogSettings, ProcessorSettings, RouteSettings, Settings, SourceSettings,
};
use crate::settings::{Config, ProcessorConfig, SourceConfig};

/// The part of `config` that the pipeline needs.
pub fn pipeline(config: &Config) -> Settings {
    Settings {
        memory_bytes: config.memory_bytes,
        checkpoint_interval: config.checkpoint_interval,
        dead_letter_max_age: config.dead_letters.max_age,
        sources: config.sources.iter().map(source).collect(),
        processors: config.processors.iter().map(processor).collect(),
        routes: routes(config),
        only: None,
        invocation_log: InvocationLogSettings {
            enabled: config.log.invocations,
            per_second: config.log.invocations_per_second,
        },
    }
}

/// The routes of `config`, with names replaced by indices.
pub fn routes(config: &Config) -> Vec<RouteSettings> {
    let index = |name: &String| config.processors.iter().position(|processor| processor.name == *name);
    let routes = config.routes.iter().map(|route| RouteSettings {
        name: route.name.clone(),
        sources: config.sources.iter().map(|source| route.sources.contains(&source.name)).collect(),
        pattern: route.whole_pattern(),
        max_age: route.max_age,
        processors: route.processors.iter().filter_map(index).collect(),
    });
    routes.collect()
}

fn source(source: &SourceConfig) -> SourceSettings {
    let kind = source.kind.as_type();
    SourceSettings {
        name: source.name.clone(),
        overlap: kind.overlap(),
        import_checkpoint: kind.import_checkpoint().map(Into::into),
    }
}

fn processor(processor: &ProcessorConfig) -> ProcessorSettings {
    ProcessorSettings { name: processor.name.clone(), delivery: processor.delivery.clone() }
}
