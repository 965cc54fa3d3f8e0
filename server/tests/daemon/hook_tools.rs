//! `ferryd hooks …`, the recipes of the manual, and the tables that stand in it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::*;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs")
}

fn hooks(dir: &Path, args: &[&str]) -> (i32, String, String) {
    ferryd(dir, &[&["hooks"], args].concat())
}

#[test]
fn every_recipe_passes_its_tests_and_stands_in_the_manual() {
    let dir = tempfile::tempdir().unwrap();
    let tests = docs().join("recipes/recipes.test.js");
    let (code, out, err) = hooks(dir.path(), &["test", tests.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("13 passed, 0 failed"), "{out}");
    let manual = std::fs::read_to_string(docs().join("hooks-recipes.md")).unwrap();
    let mut recipes = 0;
    let lib = std::fs::read_dir(docs().join("recipes/lib")).unwrap();
    for file in std::fs::read_dir(docs().join("recipes")).unwrap().chain(lib) {
        let file = file.unwrap().path();
        if file.is_dir() || file.ends_with("recipes.test.js") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(manual.contains(&format!("```js\n{text}```\n")), "{} is not in the manual", file.display());
        let (code, out, _) = hooks(dir.path(), &["check", file.to_str().unwrap()]);
        let is_library = file.parent().unwrap().ends_with("lib");
        assert_eq!(code == 0, !is_library, "{out}");
        recipes += 1;
    }
    assert_eq!(recipes, 14);
}

/// A server of the configuration in the manual takes every recipe.
#[test]
fn the_recipes_are_bound_as_the_manual_says() {
    let dir = tempfile::tempdir().unwrap();
    let manual = std::fs::read_to_string(docs().join("hooks-recipes.md")).unwrap();
    std::os::unix::fs::symlink(docs().join("recipes"), dir.path().join("recipes")).unwrap();
    let mut blocks = 0;
    for block in manual.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        // The scripts folder may not be a link.
        let folder = format!("[scripts]\nfolder = '{}'\n", docs().display());
        let block = block.replace("recipes/", &format!("{}/recipes/", docs().display()));
        let block = match block.contains("[scripts]\n") {
            true => block.replace("[scripts]\n", &folder),
            false => format!("{folder}{block}"),
        };
        std::fs::write(dir.path().join("ferryd.toml"), &block).unwrap();
        let (code, out, err) = hooks(dir.path(), &["check"]);
        assert_eq!(code, 0, "{block}\n{out}{err}");
        blocks += 1;
    }
    assert_eq!(blocks, 13);
}

#[test]
fn the_tables_in_the_manual_are_those_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    for (file, what) in [("hooks-events.md", "events"), ("hooks.md", "members")] {
        let (_, table, _) = ferryd(dir.path(), &["docs", what]);
        let path = docs().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = (format!("<!-- generated: {what} -->\n"), format!("\n<!-- end of {what} -->"));
        let (head, rest) = text.split_once(&begin).unwrap();
        let (old, tail) = rest.split_once(&end).unwrap_or(("", rest.split_once("-->").unwrap().1));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, format!("{head}{begin}{}{end}{tail}", table.trim_end())).unwrap();
            continue;
        }
        assert_eq!(old, table.trim_end(), "{file} is stale: run `cargo xtask docs`");
    }
}

#[test]
fn faults_of_handlers_are_told_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let good = at("good.js", "Log(Session.GetID()); await 0;");
    assert_eq!(hooks(dir.path(), &["check", &good]).0, 0);
    for (file, words) in [
        (at("syntax.js", "let a;\nlet b = ;"), "syntax.js:2"),
        (
            at("member.js", "\n\nSession.GetIdd();"),
            "member.js:3: there is no Session.GetIdd (nearest: GetID)",
        ),
        (at("module.mjs", "import { x } from './none.mjs';\nexport default () => x;"), "none.mjs"),
        (at("out.mjs", "import '../x.mjs';\nexport default () => {};"), "inside the scripts folder"),
        (at("nothing.mjs", "export const x = 1;"), "default"),
        (at("open.js", "}); (() => {"), "body of one function"),
    ] {
        let (code, out, err) = hooks(dir.path(), &["check", &good, &file]);
        assert_eq!(code, 1, "{file}: {out}{err}");
        assert!(out.contains(words), "{file}: {out}");
    }
    // Of a configuration, the events too.
    let hook = "[[hooks]]\nevent = \"OnAuthSucces\"\nfile = \"good.js\"\n";
    std::fs::write(dir.path().join("ferryd.toml"), hook).unwrap();
    let (code, out, _) = hooks(dir.path(), &["check"]);
    assert!(code == 1 && out.contains("did you mean 'OnAuthSuccess'?"), "{out}");
    let (code, _, err) = ferryd(dir.path(), &["check"]);
    assert!(code == 2 && err.contains("did you mean 'OnAuthSuccess'?"), "{err}");
    let hook = "[[hooks]]\nevent = \"OnAuthFail\"\nfile = \"good.js\"\ngrant = [\"file\"]\n";
    std::fs::write(dir.path().join("ferryd.toml"), hook).unwrap();
    let (code, _, err) = ferryd(dir.path(), &["check"]);
    assert!(code == 2 && err.contains("there is no grant 'file'"), "{err}");
}

#[test]
fn the_types_go_to_a_file_or_to_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = hooks(dir.path(), &["types"]);
    assert!(code == 0 && out.contains("declare const Session: FerrySession;"), "{out}");
    let file = dir.path().join("ferry.d.ts");
    assert_eq!(hooks(dir.path(), &["types", file.to_str().unwrap()]).0, 0);
    assert_eq!(std::fs::read_to_string(file).unwrap(), out);
}

#[test]
fn a_handler_is_tried_out_and_what_it_did_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let source = "const vfs = GetCurrentVFS();\n\
        Log(CtxEvent(), Session.GetUserID(), vfs.ReadFileAsText('/a').Data());\n\
        vfs.WriteFileAsText('/b', 'new'); Session.RemoveFromListDir('*.tmp'); Session.RedirectTo('/else');\n\
        Session.BlockOperation('no');";
    let file = dir.path().join("h.js");
    std::fs::write(&file, source).unwrap();
    let input = json!({ "path": "/d", "user": "bob", "files": { "/a": "old", "/e/": "" } }).to_string();
    let args = ["test", file.to_str().unwrap(), "--event", "OnDirList", "--json", &input];
    let (code, out, err) = hooks(dir.path(), &args);
    assert_eq!(code, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["log"], json!(["OnDirList bob old"]));
    assert_eq!(told["files"], json!({ "/a": "old", "/b": "new", "/e/": "" }));
    assert_eq!((&told["blocked"], &told["redirected"]), (&json!("no"), &json!("/else")));
    assert_eq!(told["hidden"], json!(["*.tmp"]));
    // A failure is told, too, and is the exit code.
    std::fs::write(&file, "\nthrow new Error('oops')").unwrap();
    let (code, out, _) = hooks(dir.path(), &args);
    assert!(code == 1 && out.contains("oops") && out.contains("h.js:2"), "{out}");
    std::fs::write(&file, "test('a', () => equal(1, 2)); test('b', () => {});").unwrap();
    let (code, out, _) = hooks(dir.path(), &["test", file.to_str().unwrap()]);
    assert!(code == 1 && out.contains("FAILED a") && out.contains("ok     b"), "{out}");
    assert!(out.contains("1 is not 2") && out.contains("1 passed, 1 failed"), "{out}");
}
