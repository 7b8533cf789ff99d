//! The names that Go knows within `\p{…}`: categories, their aliases, and scripts. The `regex`
//! crate knows more (properties, short names of scripts), which the collector refuses.

/// Scripts. Go forgets the underscores of a name before it looks, so it finds none that has one.
const SCRIPTS: &str = "Adlam Ahom Arabic Armenian Avestan Balinese Bamum Batak Bengali Bhaiksuki \
    Bopomofo Brahmi Braille Buginese Buhid Carian Chakma Cham Cherokee Chorasmian Common Coptic \
    Cuneiform Cypriot Cyrillic Deseret Devanagari Dogra Duployan Elbasan Elymaic Ethiopic Georgian \
    Glagolitic Gothic Grantha Greek Gujarati Gurmukhi Han Hangul Hanunoo Hatran Hebrew Hiragana \
    Inherited Javanese Kaithi Kannada Katakana Kawi Kharoshthi Khmer Khojki Khudawadi Lao Latin \
    Lepcha Limbu Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen \
    Medefaidrin Miao Modi Mongolian Mro Multani Myanmar Nabataean Nandinagari Newa Nko Nushu Ogham \
    Oriya Osage Osmanya Palmyrene Phoenician Rejang Runic Samaritan Saurashtra Sharada Shavian \
    Siddham Sinhala Sogdian Soyombo Sundanese Syriac Tagalog Tagbanwa Takri Tamil Tangsa Tangut \
    Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Yezidi Yi";

/// General categories: short names, then the long ones.
const CATEGORIES: &str = "C Cc Cf Cn Co L Lc Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf \
    Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs \
    Casedletter Closepunctuation Cntrl Combiningmark Connectorpunctuation Control Currencysymbol \
    Dashpunctuation Decimalnumber Digit Enclosingmark Finalpunctuation Format Initialpunctuation \
    Letter Letternumber Lineseparator Lowercaseletter Mark Mathsymbol Modifierletter \
    Modifiersymbol Nonspacingmark Number Openpunctuation Other Otherletter Othernumber \
    Otherpunctuation Othersymbol Paragraphseparator Privateuse Punct Punctuation Separator \
    Spaceseparator Spacingmark Symbol Titlecaseletter Unassigned Uppercaseletter";

/// The class of that name, or all else, in the crate's words.
pub(super) fn unicode(name: &str, negated: bool) -> Option<String> {
    let name = canonical(name);
    let is_of = |all: &str| all.split(' ').any(|one| one == name);
    let letter = if negated { 'P' } else { 'p' };
    Some(match &*name {
        // No text has one.
        "Cs" | "Surrogate" if negated => r"[\s\S]".to_owned(),
        "Cs" | "Surrogate" => r"[^\s\S]".to_owned(),
        "Any" | "Assigned" | "Ascii" => format!(r"\{letter}{{{name}}}"),
        _ if is_of(CATEGORIES) => format!(r"\{letter}{{gc={name}}}"),
        _ if is_of(SCRIPTS) => format!(r"\{letter}{{sc={name}}}"),
        _ => return None,
    })
}

/// One upper letter, then lower ones; spaces, hyphens and underscores do not count.
fn canonical(name: &str) -> String {
    let mut canonical = name.replace(['_', '-', ' '], "").to_ascii_lowercase();
    if let Some(first) = canonical.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    canonical
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_to_the_crate() {
        let special = ["Any", "Assigned", "Ascii", "Cs", "surrogate"];
        for name in SCRIPTS.split(' ').chain(CATEGORIES.split(' ')).chain(special) {
            for negated in [false, true] {
                let class = unicode(name, negated).expect(name);
                assert!(regex::Regex::new(&format!("[a{class}]{class}")).is_ok(), "{class}");
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_spelling_and_no_others_are() {
        for name in
            ["lu", "LU", "uppercase letter", "Uppercase_Letter", "-L_u", "gREEK", "assigned"]
        {
            assert!(unicode(name, false).is_some(), "{name}");
        }
        let others =
            ["", "Emoji", "Alphabetic", "Grek", "IsGreek", "gc=Lu", "Old_Italic", "L&", "ß"];
        for name in others {
            assert_eq!(unicode(name, false), None, "{name}");
        }
    }
}
