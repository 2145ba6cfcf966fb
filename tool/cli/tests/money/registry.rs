//! The registry: seen, compared, changed in the open.

use crate::desk::Desk;

#[test]
fn a_change_is_seen_before_it_is_made() {
    let desk = Desk::new();
    desk.wallet("main", 0, 100);
    desk.wallet("stranger", 1, 10);
    let made = desk.json(&["root", "new", "--delay-s", "3600", "--yes"]);
    let root = made["new_root"].as_str().expect("root").to_owned();
    let on = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--root", &root]);
        desk.run(&all)
    };
    desk.snapshot("root-show", &on(&["root", "show", "--history", "0"]).out);
    let old = desk.text(&desk.path("old.boc"));
    on(&["root", "show", "--save", &old, "--json"]).json();

    let price = ["root", "propose", "price", "25 nanoton", "20 nanoton", "--json"];
    let by_stranger = [&price[..], &["--yes", "--wallet", "stranger"]].concat();
    on(&by_stranger).mistake("only the timelock's admin");
    on(&["root", "propose", "price", "1", "2", "--yes"]).mistake("the root would refuse this");
    on(&["root", "propose", "more", "money"]).mistake("is no change");
    let tried = on(&[&price[..], &["--dry-run"]].concat()).json();
    let proposed = on(&[&price[..], &["--yes"]].concat()).json();
    assert_eq!(proposed["outcome"]["accounts"], tried["outcome"]["accounts"]);
    assert_eq!(
        proposed["what_becomes_different"][1],
        "price per token: 0.00000002 TON becomes 0.000000025 TON"
    );
    let diff = on(&["root", "diff", "now", "change:0", "--json"]).json();
    assert_eq!(diff["changes"].as_array().map(Vec::len), Some(3));
    assert_eq!(diff["everybody_moves_to_new_contracts"], true);

    on(&["root", "apply", "--yes", "--wallet", "stranger"]).mistake("say --wait, or come back");
    desk.wait(3600);
    // Anyone may carry it out.
    let applied = on(&["root", "apply", "--yes", "--wallet", "stranger", "--json"]).json();
    assert_eq!(applied["what_becomes_different"], proposed["what_becomes_different"]);
    let diff = on(&["root", "diff", &old, "--json"]).json();
    assert_eq!(diff["changes"], applied["what_becomes_different"]);
    on(&["root", "apply", "--yes"]).mistake("no change waits");

    // A change can be withdrawn; taking back needs no delay.
    on(&["root", "propose", "allow-model", "qwen@1", "--yes", "--json"]).json();
    on(&["root", "cancel", "1", "--yes", "--json"]).json();
    on(&["root", "apply", "--yes"]).mistake("no change waits");
    let revoked = on(&["root", "propose", "revoke-model", "qwen@1", "--yes", "--json"]).json();
    assert_eq!(revoked["takes_effect"], "at once: it only takes something back");
    let shown = on(&["root", "show", "--json"]).json();
    assert_eq!(shown["registry"]["version"], 3);
    assert_eq!(shown["changes_come"], "60 min after they are proposed");
}

#[test]
fn a_root_without_a_timelock_says_so() {
    let desk = Desk::new();
    desk.wallet("main", 0, 100);
    let made = desk.json(&["root", "new", "--delay-s", "0", "--yes"]);
    let root = made["new_root"].as_str().expect("root");
    let shown = desk.json(&["root", "show", "--root", root]);
    assert_eq!(shown["changes_come"], "at once and without notice: its owner is no timelock");
    desk.json(&["root", "propose", "add-proxy", "10.0.0.1:1 10.0.0.1:2", "--yes", "--root", root]);
    let shown = desk.json(&["root", "show", "--root", root]);
    assert_eq!(shown["registry"]["proxies"][0]["for_clients"], "10.0.0.1:2");
    desk.run(&["root", "new", "--delay-s", "0", "--yes"]).mistake("exists already");
}
