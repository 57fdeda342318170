//! Pages of lists, tested with projects: the same code cuts every list into pages.

use proto::paddock::{
    directory::v1::{ListGroupsRequest, ListProjectsRequest, ListProjectsResponse, ListUsersRequest},
    page::v1::Page,
};

use crate::support::{Answer as _, both_databases};

fn page(page: Option<i32>, per_page: Option<i32>) -> ListProjectsRequest {
    ListProjectsRequest { search: None, page, per_page }
}

fn paths(answer: &ListProjectsResponse) -> Vec<&str> {
    answer.projects.iter().map(|project| project.path.as_str()).collect()
}

both_databases! {
    async fn a_list_is_cut_into_pages(registry) {
        let group = registry.group("team", None).await;
        for number in 1..=5 {
            registry.project(&format!("p{number}"), &group).await;
        }
        let mut client = registry.root().projects();
        type Case = (Option<i32>, Option<i32>, &'static [&'static str], i32, i32, bool);
        let cases: [Case; 7] = [
            (None, None, &["p5", "p4", "p3", "p2", "p1"], 1, 20, false),
            (Some(1), Some(2), &["p5", "p4"], 1, 2, true),
            (Some(2), Some(2), &["p3", "p2"], 2, 2, true),
            (Some(3), Some(2), &["p1"], 3, 2, false),
            (Some(4), Some(2), &[], 4, 2, false),
            (Some(1), Some(5), &["p5", "p4", "p3", "p2", "p1"], 1, 5, false),
            (Some(i32::MAX), Some(i32::MAX), &[], i32::MAX, 100, false),
        ];
        for (number, size, expected, page_number, per_page, has_next) in cases {
            let answer = client.list_projects(page(number, size)).await.answer();
            assert_eq!(paths(&answer), expected, "{number:?} {size:?}");
            assert_eq!(answer.page, Some(Page { page: page_number, per_page, total: Some(5), has_next }));
        }
    }

    async fn a_page_that_cannot_be_is_refused_everywhere(registry) {
        let root = registry.root();
        for (number, size, text) in [
            (Some(0), None, "page does not have a valid value"),
            (Some(-1), None, "page does not have a valid value"),
            (None, Some(0), "per_page does not have a valid value"),
        ] {
            let refusals = [
                root.projects().list_projects(page(number, size)).await.refusal(),
                root.groups()
                    .list_groups(ListGroupsRequest { page: number, per_page: size, ..Default::default() })
                    .await
                    .refusal(),
                root.users()
                    .list_users(ListUsersRequest { page: number, per_page: size, ..Default::default() })
                    .await
                    .refusal(),
            ];
            for refusal in refusals {
                assert_eq!((refusal.spec().code, refusal.message()), ("parameter_invalid", text));
            }
        }
    }

    async fn a_search_takes_every_character_as_it_is(registry) {
        let group = registry.group("team", None).await;
        for path in ["a_b", "a-b", "axb"] {
            registry.project(path, &group).await;
        }
        let mut client = registry.root().projects();
        let cases: [(&str, &[&str]); 8] = [
            ("a_b", &["a_b"]),
            ("A-B", &["a-b"]),
            ("%", &[]),
            ("!", &[]),
            ("\\", &[]),
            ("'; DROP TABLE users; --", &[]),
            ("  xb ", &["axb"]),
            ("", &["axb", "a-b", "a_b"]),
        ];
        for (text, expected) in cases {
            let request = ListProjectsRequest { search: Some(text.to_owned()), ..Default::default() };
            assert_eq!(paths(&client.list_projects(request).await.answer()), expected, "{text}");
        }
        let request = ListProjectsRequest { search: Some("a\0".to_owned()), ..Default::default() };
        assert_eq!(client.list_projects(request).await.reason(), "parameter_invalid");
    }
}
