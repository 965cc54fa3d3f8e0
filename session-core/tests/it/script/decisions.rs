//! What handlers decide: refusals, order, questions, connections, ends.

use super::*;

#[tokio::test]
async fn a_handler_refuses_with_its_words() {
    let (session, _h) =
        session_with(vec![binding("OnAuthPassword", "Session.BlockOperation('not today\\n!')")]);
    assert_eq!(refused(&password(&session, "alice").await).as_deref(), Some("not today\\n!"));
}

#[tokio::test]
async fn blocking_where_nothing_can_be_refused_falls_on_the_next_thing_asked() {
    let (session, _h) = session_with(vec![binding("OnAuthFail", "Session.BlockOperation('enough')")]);
    session.decide(Lifecycle::AuthResult { user: "a", method: Method::Password, success: false }).await;
    assert_eq!(refused(&password(&session, "a").await).as_deref(), Some("enough"));
    assert_eq!(refused(&password(&session, "a").await), None);
}

#[tokio::test]
async fn an_unknown_event_is_refused_with_the_nearest_name() {
    let e = Hooks::new(Engine::new(limits()), vec![binding("OnAuthSucces", "")]).err().unwrap();
    assert_eq!(e.hint(), Some("did you mean 'OnAuthSuccess'?"));
}

#[tokio::test]
async fn user_bound_handlers_run_first_then_by_priority() {
    let mut bindings = Vec::new();
    for (name, users, priority) in [
        ("d", vec![], 20),
        ("c", vec![], 10),
        ("b", vec!["alice"], 90),
        ("a", vec!["alice"], 5),
        ("x", vec!["bob"], 1),
    ] {
        let mut b = binding("OnAuthPassword", &format!("Session.AddCustomData('{name}')"));
        b.users = users.into_iter().map(Into::into).collect();
        b.priority = priority;
        bindings.push(b);
    }
    let (session, _h) = session_with(bindings);
    session.decide(Lifecycle::AuthRequest { user: "alice" }).await;
    session.authenticating();
    session.log_in(Account::named("alice"), vec![]).unwrap();
    password(&session, "alice").await;
    assert_eq!(session.custom_data(), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn questions_come_from_the_handler() {
    let source = "Session.AddQuestion(1, 'Colour?', 'blue', true); Session.AddQuestionPassword(0, 'Password: ');\
         Session.AddQuestion(2, 'Age?', 42, true);";
    let (session, _h) = session_with(vec![binding("OnAuthInteractiveSetQuestions", source)]);
    let mut questions: Vec<Question> = Vec::new();
    session.decide(Lifecycle::AuthQuestions { user: "a", questions: &mut questions }).await;
    let prompts: Vec<_> = questions.iter().map(|q| (q.prompt.as_str(), q.echo)).collect();
    assert_eq!(prompts, [("Password: ", false), ("Colour?", true), ("Age?", true)]);
    // An answer may be written as a number; it is the text that is typed.
    assert!(matches!(&questions[2].check, Check::Equals(a) if a.expose() == "42"));
}

#[tokio::test]
async fn a_script_can_vouch_for_a_user() {
    let (session, _h) = session_with(vec![binding("OnAuthPassword", "Session.AuthenticateUserFromScript()")]);
    assert!(matches!(password(&session, "a").await, Verdict::Authenticated));
}

#[tokio::test]
async fn the_close_still_has_the_session_and_its_data() {
    let (session, _h) = session_with(vec![
        binding("OnAuthPassword", "Session.AddCustomData('kept')"),
        binding("OnConnectionClose", "Session.AddCustomData(Session.GetCustomData(0) + ' to the end')"),
    ]);
    password(&session, "a").await;
    session.close(Ending::new("bye", Actor::Client)).await;
    assert_eq!(session.custom_data(), ["kept", "kept to the end"]);
}

#[tokio::test]
async fn a_connection_is_refused_and_an_identification_is_rewritten() {
    let refuse = "if (Session === null && CtxRemoteAddress() === '192.0.2.7') RefuseConnection('not you');";
    let hooks = hooks_of(vec![
        binding("OnNewConnection", refuse),
        binding("BeforeSendSoftwareID", "SetSoftwareID('SSH-2.0-Other')"),
    ]);
    let chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
    let local = ([192, 0, 2, 1], 22).into();
    let ask = async |last| {
        chain.decide(None, Lifecycle::Connect { peer: ([192, 0, 2, last], 1).into(), local }).await
    };
    assert_eq!(refused(&ask(7).await).as_deref(), Some("not you"));
    assert_eq!(refused(&ask(8).await), None);
    let mut id = "SSH-2.0-Ferry".to_string();
    chain.decide(None, Lifecycle::SoftwareId { id: &mut id }).await;
    assert_eq!(id, "SSH-2.0-Other");
}

#[tokio::test]
async fn an_end_that_is_not_the_clients_is_told_before_the_close() {
    for (actor, told) in
        [(Actor::Client, "OnConnectionClose"), (Actor::Hook, "OnSessionTerminated,OnConnectionClose")]
    {
        let note = "Session.AddCustomData(CtxEvent())";
        let (session, _h) =
            session_with(vec![binding("OnSessionTerminated", note), binding("OnConnectionClose", note)]);
        session.close(Ending::new("x", actor)).await;
        assert_eq!(session.custom_data().join(","), told);
    }
}
