//! The block of an `ottl_condition` policy (tailsampling 1.3, 2.12).

use crate::config::read::Block;
use crate::config::report::At;
use crate::sample::options::{ErrorMode, Rule};
use crate::sample::ottl::{Condition, List};

/// Reads the block. A condition that cannot be compiled is an error.
pub(super) fn read(b: &mut Block<'_>) -> Rule {
    let choices = [
        ("silent", ErrorMode::Silent),
        ("ignore", ErrorMode::Ignore),
        ("propagate", ErrorMode::Propagate),
    ];
    // A null is no mode. Unset behaves as silent, whatever the documentation of the collector says.
    let error_mode = match b.node("error_mode").is_some() {
        true => b.choice_any_case("error_mode", "silent", &choices, ErrorMode::Silent),
        false => ErrorMode::Silent,
    };
    let span = b.texts_at("span");
    let spanevent = b.texts_at("spanevent");
    if span.is_empty() && spanevent.is_empty() {
        let right = "span:\n  - attributes[\"http.response.status_code\"] >= 500";
        b.start_error("expected at least one OTTL condition to filter on", right);
    }
    compile(b, "span", &span, List::Span);
    compile(b, "spanevent", &spanevent, List::SpanEvent);
    let texts = |list: Vec<(String, _)>| list.into_iter().map(|(text, _)| text).collect();
    Rule::OttlCondition { error_mode, span: texts(span), spanevent: texts(spanevent) }
}

/// Each condition by itself, so that all faults are told.
fn compile(b: &Block<'_>, key: &str, conditions: &[(String, At)], list: List) {
    for (i, (text, at)) in conditions.iter().enumerate() {
        if let Err(e) = Condition::compile(text, list) {
            b.start_error_of_item(key, (i, *at), &e.to_string(), "");
        }
    }
}
