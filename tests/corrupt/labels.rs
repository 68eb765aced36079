//! Changed label texts: the same verdict and the same pairs as an independent reader.

use crate::fuzzing::label_oracle::{ALL, ENABLED, compare, read, same_as_second_engine, store_of};
use crate::setting;
use crate::usage::Random;

/// Enough for a continuous integration; the soak takes more.
const LABELS: u64 = 150_000;
/// Texts per store: a store keeps what it has read.
const TEXTS_PER_STORE: u64 = 10_000;

/// Valid texts: what clusters have, and the corners of JSON.
const SEEDS: [&str; 24] = [
    r#"{"app": "shop", "env": "prod", "other": "x"}"#,
    r#"{"app":"","env":null,"a":true,"my_x":false}"#,
    r#"{"\u00e9":"\u00e9\ud83d\ude00","app":"\\u0000 \" \/ \b\f\n\r\t"}"#,
    r#"{"app":1,"env":-0,"a":2.50,"my_x":1e2,"é":-1.5E-3}"#,
    r#"{"app":{"b":[1,2.0,{"c":null}],"aa":"x"},"env":[],"a":{}}"#,
    r#"{"app":18446744073709551615,"env":-9223372036854775808,"a":9223372036854775808,"my_x":1e400}"#,
    r#"{"app":123456789012345678901234567890.12345678901234567890,"env":0.000}"#,
    r#"{"app":"1","app":"2","\u0061pp":"3"}"#,
    " \t\r\n{ \"app\" : \"x\" , \"env\" : [ ] }\r\n",
    "{}",
    r#"{"":"empty key","a":"b"}"#,
    r#"{"key with \"quotes\"":"\u2028\u007f"}"#,
    "label_app:shop|label_env:prod|label_other:x",
    "label_my_label_x:1|label_a:|label_app:a:b|app:z|label_env",
    "label_label:x|label_:y||label_é:ü",
    r#"{"app.kubernetes.io/name":"web","app":"web-7d9f","topology.kubernetes.io/zone":"eu-1a"}"#,
    r#"{"app":[[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]}"#,
    r#"{"other":[{"app":"nested, not kept"}],"app":"kept"}"#,
    r#"{"app":"ＡＢＣ","env":"🎉","a":"\ud83c\udf89"}"#,
    r#"{"app":1E+2,"env":1e-2,"a":0e5,"my_x":-0.0}"#,
    r#"{"vm_kubevirt_io_name":"vm-1","app":"x"}"#,
    " ",
    r#"[{"app":"x"}]"#,
    r#""app""#,
];

/// Pieces that are put into texts.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\u00E9",
    "\u{0}",
    "\u{1f}",
    "\u{7f}",
    "\u{85}",
    "\u{feff}",
    "\u{a0}",
    "é",
    "🎉",
    "null",
    "true",
    "false",
    "nul",
    "-",
    "+",
    ".",
    "0",
    "00",
    "1e5",
    "1e99999",
    "1e-99999",
    "1e131072",
    "0.",
    "NaN",
    "label_",
    "|",
    "\"app\":\"x\",",
];

/// A changed text. Some changes keep it valid, most do not.
fn mutate(random: &mut Random, seeds: &[&str]) -> String {
    let mut text = random.pick(seeds).to_owned();
    for _ in 0..random.pick(&[0, 1, 1, 1, 2, 3]) {
        let (from, to) = (boundary(random, &text), boundary(random, &text));
        let (from, to) = (from.min(to), from.max(to));
        match random.below(12) {
            0 => text.truncate(from),
            1 => text.replace_range(from..to, ""),
            2 => text.insert_str(from, &text.clone()[from..to]),
            3 | 4 => text.insert_str(from, random.pick(&PIECES)),
            5 => {
                let mut bytes = text.into_bytes();
                if !bytes.is_empty() {
                    let position = random.below(bytes.len());
                    bytes[position] ^= 1 << random.below(8);
                }
                // The decoder before has refused what is no UTF-8.
                text = String::from_utf8_lossy(&bytes).into_owned();
            }
            6 => {
                let digits: String =
                    (0..random.below(400)).map(|_| char::from(b'0' + random.below(10) as u8)).collect();
                text.insert_str(from, &digits);
            }
            7 => {
                let depth = random.below(130);
                text.insert_str(from, &format!("\"app\":{}{},", "[".repeat(depth), "]".repeat(depth)));
            }
            8 => text.insert_str(from, &"k".repeat(random.below(5_000))),
            9 => text.insert_str(from, &format!("\\u{:04x}", random.below(65_536))),
            10 => {
                let other = random.pick(seeds);
                let at = boundary(random, other);
                text.insert_str(from, &other[at..]);
            }
            _ => {
                let value =
                    random.pick(&["1", "-1.50", "1e3", "\"é\"", "null", "[1]", "{\"b\":2,\"a\":1}", "\"\\u0041\""]);
                let key = random.pick(&ENABLED).replace('"', "\\\"");
                text = text.replacen('{', &format!("{{\"{key}\":{value},"), 1);
            }
        }
    }
    text
}

fn boundary(random: &mut Random, text: &str) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[test]
fn changed_label_texts_are_read_as_others_read_them() {
    let (text_count, seed) = (setting("SOAK_LABELS", LABELS), setting("SOAK_SEED", 4));
    let mut random = Random(seed);
    println!("| semantics | texts | taken | refused | pairs compared | compared with the second engine |");
    println!("|---|---|---|---|---|---|");
    for semantics in ALL {
        let (mut taken, mut refused, mut pairs_compared, mut second) = (0_u64, 0_u64, 0_u64, 0_u64);
        let share = text_count.div_ceil(3);
        let mut store = None;
        for number in 0..share {
            if number % TEXTS_PER_STORE == 0 {
                store = None;
            }
            let store = store.get_or_insert_with(|| store_of(semantics));
            let text = mutate(&mut random, &SEEDS);
            let found = read(store, &text);
            match found {
                Ok(_) => taken += 1,
                Err(_) => refused += 1,
            }
            pairs_compared += u64::from(compare(semantics, &text, &found));
            second += u64::from(same_as_second_engine(semantics, &text, &found));
        }
        assert!(taken > share / 20 && refused > share / 20, "{semantics}: {taken} taken, {refused} refused");
        println!("| {semantics} | {share} | {taken} | {refused} | {pairs_compared} | {second} |");
    }
}
