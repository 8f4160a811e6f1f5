use super::*;
use crate::config::problem::Problems;

/// The tree as `LINE:value` text, or the errors.
fn show(read: fn(&str, &mut Problems) -> Option<Node>, text: &str) -> String {
    fn write(node: &Node) -> String {
        let inner = match &node.data {
            NodeData::Null => "null".into(),
            NodeData::Scalar(Scalar { text, plain: true }) => text.clone(),
            NodeData::Scalar(Scalar { text, plain: false }) => format!("{text:?}"),
            NodeData::List(items) => {
                format!("[{}]", items.iter().map(write).collect::<Vec<_>>().join(" "))
            }
            NodeData::Map(entries) => {
                let entries = entries.iter().map(|e| format!("{}@{}={}", e.key, e.line, write(&e.value)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
            }
        };
        format!("{}:{inner}", node.line)
    }
    let mut problems = Problems::default();
    let tree = read(text, &mut problems).map(|node| write(&node)).unwrap_or_default();
    let errors = problems.errors.iter().map(|p| format!(" !{}: {}", p.line, p.message));
    tree + &errors.collect::<String>()
}

#[test]
fn yaml_keeps_lines_and_text() {
    let check = |text: &str, expected: &str| assert_eq!(show(read_yaml, text), expected, "{text}");
    check("a: 1\nb:\n  - x\n  - 'y'\n", r#"1:{a@1=1:1 b@2=3:[3:x 4:"y"]}"#);
    check("\u{feff}a: 0123\nb: no\nc: ~\nd:\n", "1:{a@1=1:0123 b@2=2:no c@3=3:null d@4=4:null}");
    check("p: 'a$ # \" '' \\ : %'\n", r#"1:{p@1=1:"a$ # \" ' \\ : %"}"#);
    check("a: !!str 12\n", r#"1:{a@1=1:"12"}"#);
    check(
        "a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\n",
        "1:{a@1=1:{k@1=1:1 l@1=1:2} b@2=3:{l@4=4:3 k@1=1:1}}",
    );
    check("a: 1\nb: 2\na: 3\n", "1:{a@1=1:1 b@2=2:2} !3: `a` is here twice; the first is in line 1");
}

#[test]
fn unreadable_yaml_says_where() {
    let check = |text: &str, line: usize, part: &str| {
        let shown = show(read_yaml, text);
        assert!(shown.starts_with(&format!(" !{line}: ")) && shown.contains(part), "{text}: {shown}");
        assert!(!shown.contains("hunter2"), "shows a secret: {shown}");
    };
    check("", 1, "the file is empty");
    check("# nothing\n", 1, "the file is empty");
    check("a: b\npassword: *hunter2\n", 2, "`*` begins an alias");
    check("a: b\npassword: @hunter2\n", 2, "single quotes");
    check("a: [1, 2\nb: 3\n", 2, "not readable as YAML");
    check("a: 1\n---\nb: 2\n", 2, "more than one YAML document");
    check("a: !hunter2 x\n", 1, "a YAML tag");
    check("{a: {b}: c}\n", 1, "");
    check("a: &x [*x]\n", 1, "an alias of a value within that value");
    check(&format!("a: {}", "[".repeat(200)), 1, "");
}

#[test]
fn aliases_cannot_explode() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", "));
    }
    let shown = show(read_yaml, &bomb);
    assert!(shown.contains("once its aliases are resolved"), "{}", &shown[..200.min(shown.len())]);
    let mut tower = String::from("a0: &a0 [x]\n");
    for level in 1..100 {
        tower += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert!(show(read_yaml, &tower).contains("nested more than 64 deep"));
    let wide: String = (0..1_001).map(|n| format!("k{n}: 1\n")).collect();
    assert!(show(read_yaml, &wide).contains("more than 1000 fields"));
    let fat = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    assert!(show(read_yaml, &fat).contains("once its aliases are resolved"));
}

#[test]
fn json_keeps_lines_and_text() {
    let check = |text: &str, expected: &str| assert_eq!(show(read_json, text), expected, "{text}");
    check(
        "[\n\t{\"a\": \"x\\n\\u00e9\",\n\t\"b\"\n:\ntrue, \"c\": null}\n]",
        r#"1:[2:{a@2=2:"x\né" b@5=5:true c@5=5:null}]"#,
    );
    check(r#"{"a": 1, "a": 2}"#, "1:{a@1=1:2}");
    const ADVICE: &str =
        "JSON has text in double quotes, a comma between elements but none behind the last, and no comments";
    check("[\n{\"a\": 1,}\n]", &format!(" !2: not readable as JSON: key must be a string; {ADVICE}"));
    check("[1] x", &format!(" !1: not readable as JSON: trailing characters; {ADVICE}"));
    let deep = "[".repeat(100) + &"]".repeat(100);
    check(&deep, " !1: lists and maps are nested more than 64 deep");
}
