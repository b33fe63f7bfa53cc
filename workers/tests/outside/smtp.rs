//! The fallback mail over real connections.

use std::{path::PathBuf, process::Stdio};

use chrono::DateTime;
use sandbox::{
    outside::OutsideWorld,
    smtp::{PASSWORD, Protection, Smtp, USERNAME},
    switch::Trouble,
};
use serde_json::json;
use store::{
    handoffs::{Lead, Trigger},
    phrases::Language,
    settings::Settings,
};
use workers::{
    config::SmtpConfig,
    handoff::{Channel, Dossier, Email, Line, Receipt, SendError, Speaker},
};

/// A variable of the test's own, for its child.
const CHILD_PORT: &str = "TEST_SMTP_PORT";

async fn server() -> Smtp {
    Smtp::start(OutsideWorld::default(), 0).await.unwrap()
}

fn email(port: u16, tls: &str, password: &str) -> Email {
    let variables = [
        ("SMTP_HOST", "localhost".to_owned()),
        ("SMTP_PORT", port.to_string()),
        ("SMTP_USERNAME", USERNAME.to_owned()),
        ("SMTP_PASSWORD", password.to_owned()),
        ("SMTP_TLS", tls.to_owned()),
        ("FALLBACK_EMAIL_ADDRESS", "sales@company.example".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let mut settings = Settings::new(variables);
    let config = SmtpConfig::read(&mut settings);
    Email::new(&settings.finish(config).unwrap())
}

fn plain(server: &Smtp) -> Email {
    email(server.port(), "none", PASSWORD)
}

fn dossier(handoff_id: &str) -> Dossier {
    let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
    Dossier {
        session_id: "s1".parse().unwrap(),
        handoff_id: handoff_id.parse().unwrap(),
        revision: 1,
        trigger: Trigger::ContactForm,
        stage: 4,
        lead: Lead {
            name: Some("Ada\r\nBcc: victim@visitor.example".to_owned()),
            email: Some("ada@visitor.example".to_owned()),
            ..Lead::default()
        },
        consent: true,
        summary: None,
        transcript: vec![Line {
            speaker: Speaker::Visitor,
            text: "Grüße\n.\nMAIL FROM:<x@y.example>".to_owned(),
            at,
        }],
        page_url: None,
        locale: Some("de".to_owned()),
        language: Language::German,
        promise: None,
        created_at: at,
        first_attempt_at: at,
        attempt: 1,
        last_attempt: false,
        taken_by: None,
        references: Vec::new(),
        speaks: None,
        was_spoken_to: false,
        earlier_thread: None,
    }
}

#[tokio::test]
async fn a_mail_goes_to_the_fallback_address_and_nobody_else() {
    let server = server().await;
    let receipt = plain(&server).send(&dossier("h1")).await.unwrap();
    let message_id = "<h1@company.example>".to_owned();
    assert_eq!(
        receipt,
        Receipt {
            reference: json!({ "message_id": message_id }),
            provider_id: Some(message_id),
            url: None,
        }
    );
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert_eq!(mail.sender, USERNAME);
    assert_eq!(mail.recipients, ["sales@company.example"]);
    assert_eq!(mail.message_id, "h1@company.example");
    assert_eq!(
        mail.subject,
        "Contact request: Ada Bcc: victim@visitor.example"
    );
    assert_eq!(mail.header("Reply-To"), Some("ada@visitor.example"));
    assert_eq!(mail.header("Auto-Submitted"), Some("auto-generated"));
    assert_eq!(mail.header("Bcc"), None);
    let text = mail.text.replace("\r\n", "\n");
    assert!(
        text.contains("> Grüße\n> .\n> MAIL FROM:<x@y.example>\n"),
        "{text}"
    );
    assert!(
        mail.html.contains("MAIL FROM:&lt;x@y.example&gt;"),
        "{}",
        mail.html
    );
}

#[tokio::test]
async fn mails_one_after_another_share_a_connection() {
    let server = server().await;
    let email = plain(&server);
    for number in 1..=3 {
        email.send(&dossier(&format!("h{number}"))).await.unwrap();
        assert_eq!(server.connections(), 1);
    }
    assert_eq!(server.mails().len(), 3);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced() {
    let first = server().await;
    let port = first.port();
    let email = plain(&first);
    email.send(&dossier("h1")).await.unwrap();
    drop(first);
    let second = loop {
        // The port is free when the last connection is gone.
        if let Ok(server) = Smtp::start(OutsideWorld::default(), port).await {
            break server;
        }
        tokio::task::yield_now().await;
    };
    email.send(&dossier("h2")).await.unwrap();
    assert_eq!(second.mails().len(), 1);
}

#[tokio::test]
async fn what_the_server_says_for_now_heals_and_what_it_says_for_good_does_not() {
    let server = server().await;
    let email = plain(&server);
    let refuse = |words: &str| Trouble::Refuse(words.to_owned());
    for (trouble, expected) in [
        (
            refuse("451 4.7.1 greylisted, ada@visitor.example"),
            SendError::healable("the mail server answered 451 4.7.1 to the recipient"),
        ),
        (
            Trouble::SlowDown(60),
            SendError::healable("the mail server answered 421 to the recipient"),
        ),
        (
            refuse("535 5.7.8 who are you"),
            SendError::healable("the mail server answered 535 5.7.8 to the recipient"),
        ),
        (
            refuse("550 5.1.1 sales@company.example is unknown"),
            SendError::fatal("the mail server answered 550 5.1.1 to the recipient"),
        ),
    ] {
        server.switch().once(trouble.clone());
        let refused = email.send(&dossier("h1")).await;
        assert_eq!(refused.unwrap_err(), expected, "{trouble:?}");
    }
    assert!(server.mails().is_empty());
    email.send(&dossier("h1")).await.unwrap();
}

#[tokio::test]
async fn a_mail_whose_fate_is_unknown_is_sent_again_under_the_same_name() {
    let server = server().await;
    let email = plain(&server);
    server.switch().once(Trouble::TakeAndCut);
    let lost = email.send(&dossier("h1")).await.unwrap_err();
    assert!(matches!(lost, SendError::Unknown { .. }), "{lost}");
    let again = Dossier {
        attempt: 2,
        ..dossier("h1")
    };
    assert_eq!(email.reconcile(&again).await.unwrap(), None);
    email.send(&again).await.unwrap();
    let mut mails = server.mails();
    assert_eq!(mails.len(), 2);
    mails[0].number = mails[1].number;
    assert!(mails[0] == mails[1]);
}

#[tokio::test]
async fn a_password_that_is_wrong_may_be_put_right() {
    let server = server().await;
    let email = email(server.port(), "none", "not this");
    let refused = email.send(&dossier("h1")).await.unwrap_err();
    let reason = "the mail server answered 535 to the authentication";
    assert_eq!(refused, SendError::healable(reason));
}

#[tokio::test]
async fn a_server_that_is_not_there_may_come_back() {
    let port = server().await.port();
    let email = email(port, "none", PASSWORD);
    let failed = email.send(&dossier("h1")).await.unwrap_err();
    assert!(matches!(failed, SendError::Healable { .. }), "{failed}");
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_offers_no_starttls() {
    let world = OutsideWorld::default();
    let server = Smtp::start_with(world.clone(), 0, Protection::None);
    let server = server.await.unwrap();
    let email = email(server.port(), "starttls", PASSWORD);
    let failed = email.send(&dossier("h1")).await.unwrap_err();
    assert_eq!(
        failed,
        SendError::healable("the mail server offers no STARTTLS")
    );
    assert!(world.exchanges().is_empty());
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_refused() {
    let world = OutsideWorld::default();
    for (protection, tls) in [
        (Protection::StartTls, "starttls"),
        (Protection::Implicit, "implicit"),
    ] {
        let server = Smtp::start_with(world.clone(), 0, protection)
            .await
            .unwrap();
        let email = email(server.port(), tls, PASSWORD);
        let failed = email.send(&dossier("h1")).await.unwrap_err();
        assert!(matches!(failed, SendError::Healable { .. }), "{failed}");
    }
    assert!(world.exchanges().is_empty());
}

#[tokio::test]
async fn a_certificate_of_ssl_cert_file_is_trusted() {
    for (protection, tls) in [
        (Protection::StartTls, "starttls"),
        (Protection::Implicit, "implicit"),
    ] {
        let server = Smtp::start_with(OutsideWorld::default(), 0, protection);
        let server = server.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let roots: PathBuf = folder.path().join("roots.pem");
        std::fs::write(&roots, server.certificate()).unwrap();
        // The variable is read by a process as a whole, so another one has to send.
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "smtp::sends_a_mail_as_its_parent_says",
                "--ignored",
            ])
            .env(CHILD_PORT, format!("{tls} {}", server.port()))
            .env("SSL_CERT_FILE", &roots)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{said}");
        let mails = server.mails();
        assert_eq!(mails.len(), 1, "{said}");
        assert!(mails[0].encrypted);
    }
}

/// No test: what the one above runs in a process of its own.
#[tokio::test]
#[ignore = "run by another test, with variables"]
async fn sends_a_mail_as_its_parent_says() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the parent says so by the environment"
    )]
    let told = std::env::var(CHILD_PORT).unwrap();
    let (tls, port) = told.split_once(' ').unwrap();
    let email = email(port.parse().unwrap(), tls, PASSWORD);
    email.send(&dossier("h1")).await.unwrap();
}
