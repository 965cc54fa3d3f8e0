//! Modules: what they import, what they keep, what is refused before it runs.

use super::*;

fn module(dir: &std::path::Path, event: &str, name: &str) -> Binding {
    let folder = ScriptFolder::open(dir).unwrap();
    let source = folder.read(name).unwrap();
    Binding { module: Some((folder, name.into())), ..Binding::new(event, name, source) }
}

#[tokio::test]
async fn modules_import_inside_their_folder_and_keep_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    put(
        "h.mjs",
        "import { next } from './lib/count.mjs';\nexport default async () => Session.AddCustomData(String(next()));",
    );
    put(
        "lib/count.mjs",
        "import { one } from '../one.mjs';\nlet n = 0;\nexport const next = () => n += one;",
    );
    put("one.mjs", "export const one = 1;");
    let (session, _h) = session_with(vec![module(dir.path(), "OnAuthPassword", "h.mjs")]);
    // What stands on disk now is the business of the next reload.
    put("one.mjs", "export const one = 5;");
    for _ in 0..2 {
        assert!(matches!(password(&session, "a").await, Verdict::Pass));
    }
    assert_eq!(session.custom_data(), ["1", "1"]);
    // A failure says where.
    put("t.mjs", "import './lib/throws.mjs';\nexport default () => {};");
    put("lib/throws.mjs", "\nthrow new Error('oops');");
    let trial =
        Trial::new(Engine::new(limits()), Services::default(), module(dir.path(), "BeforeCommand", "t.mjs"));
    let error = trial.unwrap().run(Try::default()).await.error.unwrap();
    assert!(error.contains("oops") && error.contains("lib/throws.mjs:2"), "{error}");
}

#[tokio::test]
async fn modules_that_do_not_link_are_refused_before_they_run() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("in");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(dir.path().join("outside.mjs"), "export const x = 1;").unwrap();
    std::os::unix::fs::symlink("../outside.mjs", inside.join("link.mjs")).unwrap();
    std::fs::write(inside.join("lib.mjs"), "throw new Error('it was run');\nexport const x = 1;").unwrap();
    let bind = |text: &str| {
        std::fs::write(inside.join("h.mjs"), text).unwrap();
        Hooks::new(Engine::new(limits()), vec![module(&inside, "OnAuthPassword", "h.mjs")])
    };
    for (text, words) in [
        ("import { x } from '../outside.mjs'; export default () => x;", "inside the scripts folder"),
        ("import { x } from './link.mjs'; export default () => x;", "symbolic link"),
        ("import { x } from '/etc/passwd'; export default () => x;", "inside the scripts folder"),
        ("import fs from 'fs'; export default () => fs;", "inside the scripts folder"),
        ("import { x } from './none.mjs'; export default () => x;", "none.mjs"),
        ("import { y } from './lib.mjs'; export default () => y;", "y"),
        ("import { x } from './lib.mjs'; export const f = () => x;", "default"),
        ("\n\nexport default () => {", "h.mjs:3"),
    ] {
        let e = bind(text).err().unwrap_or_else(|| panic!("it was bound: {text}"));
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.to_string().contains(words), "{text}: {e}");
    }
    // Linked, and not run.
    assert!(bind("import { x } from './lib.mjs'; export default () => x;").is_ok());
    // A classic script imports nothing, at no time.
    for call in ["await import('./lib.mjs')", "await import('fs')"] {
        let (session, _h) = session_with(vec![binding("OnAuthPassword", call)]);
        assert!(refused(&password(&session, "a").await).is_some(), "{call}");
    }
    let late = bind("export default async () => { await import('./lib.mjs'); };").unwrap();
    let mut setup = Setup::new(Protocol::Sftp, "main");
    setup.chain = Chain::new(vec![late as Arc<dyn Interceptor>]);
    assert!(refused(&password(&Session::new(setup), "a").await).is_some());
}
