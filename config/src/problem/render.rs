//! Problems as text for a terminal, with the renderer that cargo and rustc use.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Place, Position, Problem, Problems};

/// One block per problem, an empty line between them, and the summary as the last line.
pub(super) fn render(problems: &Problems, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for problem in problems {
        text.push_str(&renderer.render(&[compose(problems, problem)]));
        text.push_str("\n\n");
    }
    text.push_str(&problems.summary());
    text
}

fn compose<'a>(problems: &'a Problems, problem: &'a Problem) -> Group<'a> {
    let title = Level::ERROR.primary_title(&problem.message).id(problem.code);
    let file = problems.file.as_ref().map(|file| file.display().to_string());
    let group = match &problem.place {
        Place::File(position) => {
            let primary = AnnotationKind::Primary.span(position.span.clone());
            let snippet = Snippet::source(&problems.masked_text)
                .path(file)
                .annotation(with_label(primary, &problem.label))
                .annotations(problem.related.iter().map(|label| context(&label.position, &label.text)));
            title.element(snippet)
        }
        Place::Variable(name) => title.element(Origin::path(format!("environment variable {name}"))),
        Place::Flag(name) => title.element(Origin::path(format!("flag {name}"))),
        Place::Nowhere => match file {
            Some(file) => title.element(Origin::path(file)),
            None => Group::with_title(title),
        },
    };
    group.elements(problem.help.as_deref().map(|help| Level::HELP.message(help)))
}

fn context<'a>(position: &Position, text: &'a str) -> Annotation<'a> {
    with_label(AnnotationKind::Context.span(position.span.clone()), text)
}

fn with_label<'a>(annotation: Annotation<'a>, text: &'a str) -> Annotation<'a> {
    if text.is_empty() { annotation } else { annotation.label(text) }
}
