//! The fuzz target `config` on what is near to real configurations: prefixes, lines left out,
//! indentation and characters changed.

mod body;

use tracemill::testing::random::Random;

const EXAMPLES: [&str; 4] = [
    include_str!("../../configs/router.yaml"),
    include_str!("../../configs/signals.yaml"),
    include_str!("../../configs/passthrough.yaml"),
    include_str!("../../configs/tracemill.yaml"),
];

#[test]
fn the_loader_never_panics_on_prefixes() {
    for text in EXAMPLES {
        for (end, _) in text.char_indices().step_by(7) {
            body::config(&text[..end]);
        }
        body::config(text);
    }
}

#[test]
fn the_loader_never_panics_on_changed_lines() {
    let mut random = Random::new(9);
    let odd: [&str; 16] = [
        "", "  ", "\t", ": ", "- ", "{", "[", "&a ", "*a", "!!int ", "|", "'", "${", "$$", "\u{0}",
        "~",
    ];
    for text in EXAMPLES {
        let lines: Vec<_> = text.lines().filter(|l| !l.trim_start().starts_with('#')).collect();
        for _ in 0..400 {
            let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            for _ in 0..=random.below(3) {
                let at = usize::try_from(random.below(lines.len() as u64)).unwrap_or(0);
                match random.below(4) {
                    0 => drop(lines.remove(at)),
                    1 => lines[at].insert_str(0, random.pick::<&str>(&odd)),
                    2 => lines[at].push_str(random.pick::<&str>(&odd)),
                    _ => lines[at] = lines[at].trim().to_owned(),
                }
            }
            body::config(&lines.join("\n"));
        }
    }
}
