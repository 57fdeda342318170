//! The headers of lists that link to other pages.

use proto::paddock::{
    contract::v1::CredentialKind,
    job_token::v1::{ListAuthenticationLogRequest, ListAuthenticationLogResponse},
    page::v1::{Cursor, Page},
    runner::v1::{ListProjectRunnersRequest, ListProjectRunnersResponse, Runner},
};

use crate::support::{World, send, token};

fn page(total: Option<i64>) -> ListProjectRunnersResponse {
    let page = Page { page: 2, per_page: 3, total, has_next: true };
    ListProjectRunnersResponse { runners: vec![Runner::default(); 3], page: Some(page) }
}

#[tokio::test]
async fn a_page_leads_to_its_neighbours_without_the_credential() {
    let world = World::start().await;
    world.fake.answers::<ListProjectRunnersRequest, _>("list_project_runners", page(Some(8)));
    let carrier = token::parameters(CredentialKind::UserToken)[0];
    let path = format!(
        "/api/v4/projects/a%2Fb/runners?{carrier}={}&status=online&page=2&per_page=3&tag_list[]=x",
        token::user()
    );
    let answer = send(world.get(&path)).await;
    assert_eq!(answer.json().as_array().map(Vec::len), Some(3));
    let expected = [
        ("x-page", "2"),
        ("x-per-page", "3"),
        ("x-next-page", "3"),
        ("x-prev-page", "1"),
        ("x-total", "8"),
        ("x-total-pages", "3"),
    ];
    for (name, value) in expected {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let base = world.url("/api/v4/projects/a%2Fb/runners");
    let links = [(1, "prev"), (3, "next"), (1, "first"), (3, "last")].map(|(number, relation)| {
        format!("<{base}?status=online&tag_list[]=x&page={number}&per_page=3>; rel=\"{relation}\"")
    });
    assert_eq!(answer.header("link"), links.join(", "));
}

#[tokio::test]
async fn a_list_that_was_not_counted_has_no_total() {
    let world = World::start_with(|config| config.external_url = "https://ci.example.com/paddock/".into()).await;
    world.fake.answers::<ListProjectRunnersRequest, _>("list_project_runners", page(None));
    let (header, user) = token::user_header();
    let answer = send(world.get("/api/v4/projects/5/runners").header(header, user)).await;
    assert!(!answer.headers.contains_key("x-total") && !answer.headers.contains_key("x-total-pages"));
    assert!(
        answer
            .header("link")
            .contains("<https://ci.example.com/paddock/api/v4/projects/5/runners?page=3&per_page=3>; rel=\"next\"")
    );
    assert!(!answer.header("link").contains("rel=\"last\""));
}

#[tokio::test]
async fn a_list_that_grows_leads_to_its_next_page_without_the_credential() {
    let world = World::start().await;
    let carrier = token::parameters(CredentialKind::UserToken)[0];
    let path = "/api/v4/projects/5/job_token_scope/authentication_log";
    let asked = format!("{path}?{carrier}={}&per_page=3&cursor=old&sort=asc", token::user());
    for (next, header, link) in [
        (
            Some("a+b/c="),
            "a+b/c=",
            format!("<http://{}{path}?per_page=3&sort=asc&cursor=a%2Bb%2Fc%3D>; rel=\"next\"", world.address),
        ),
        (None, "", String::new()),
    ] {
        let cursor = Cursor { per_page: 3, next: next.map(str::to_owned) };
        let answer = ListAuthenticationLogResponse { cursor: Some(cursor), ..ListAuthenticationLogResponse::default() };
        world.fake.answers::<ListAuthenticationLogRequest, _>("list_authentication_log", answer);
        let answer = send(world.get(&asked)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
        assert_eq!((answer.header("x-per-page"), answer.header("x-next-cursor")), ("3", header));
        assert_eq!(answer.header("link"), link);
        assert!(!answer.headers.contains_key("x-page"));
    }
}
