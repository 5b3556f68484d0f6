//! Charts as SVG, written by hand: horizontal bars that read well on light and dark pages, as an image and without
//! scripts. The colours follow the reader's preference, the background is the page's.

use std::fmt::Write;

use crate::{
    compare::{Entry, Outcome, Results},
    measure::Measure,
    peers::Role,
    report::{best, spread},
    scenario::Tool,
    stats::Spread,
};

const WIDTH: f64 = 760.0;
/// Where bars begin: names stand before it.
const LEFT: f64 = 130.0;
/// Where the longest bar ends: its figure stands behind it.
const RIGHT: f64 = 600.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;

/// Bars of ratios are cut here; the figure still says how long they are.
const CUT: f64 = 3.0;

const STYLE: &str = "<style>\
    text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:14px;font-weight:600}.small{fill:#59636e}\
    .ours{fill:#0969da}.peer{fill:#8c959f}.floor{fill:#d1d9e0}.line{stroke:#59636e;stroke-width:1}\
    .mark{stroke:#cf222e;stroke-width:1;stroke-dasharray:3 3}\
    @media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.ours{fill:#4493f8}.peer{fill:#656c76}\
    .floor{fill:#3d444d}.line{stroke:#9198a1}.mark{stroke:#f85149}}</style>";

/// One bar.
struct Bar {
    name: &'static str,
    role: Role,
    value: f64,
    /// Least and most, as a whisker.
    ends: Option<(f64, f64)>,
    label: String,
}

/// The chart of one scenario: its first figure of every proxy, with the least and the most as whiskers.
pub fn scenario(outcome: &Outcome, entries: &[Entry]) -> Option<String> {
    let tool = outcome.scenario.tool;
    let measure = *Measure::of_tool(tool).first()?;
    let bars: Vec<Bar> = spreads(outcome, entries, measure)
        .map(|(entry, s)| Bar {
            name: entry.peer.name,
            role: entry.peer.role,
            value: s.median,
            ends: Some((s.min, s.max)),
            label: format!("{:.*}", measure.digits(s.median), s.median),
        })
        .collect();
    let most = bars.iter().map(|b| b.ends.map_or(b.value, |e| e.1)).fold(0.0, f64::max);
    if bars.is_empty() || most <= 0.0 {
        return None;
    }
    let mut body = String::new();
    let better = if measure.more() { "more is better" } else { "less is better" };
    let title = format!("{}: {}", outcome.scenario.name, measure.title(tool));
    let y = heading(&mut body, &title, &format!("{better}; medians, the line from the least to the most"));
    let end = draw(&mut body, &bars, y, most);
    Some(whole(&title, end + 6.0, &body))
}

/// The chart over all scenarios with one worker: CPU time per request as a multiple of the better C proxy's.
pub fn overview(results: &Results) -> Option<String> {
    let mut body = String::new();
    let title = "CPU time per request, as a multiple of the better of nginx and HAProxy";
    let mut y = heading(&mut body, title, "less is better; one worker");
    let top = y;
    let mut any = false;
    for outcome in results.outcomes.iter().filter(|o| o.workers == 1 && o.scenario.tool != Tool::Idle) {
        let Some(base) =
            best(outcome, &results.entries, &[Role::Reference], Measure::Cpu).filter(|b| *b > 0.0)
        else {
            continue;
        };
        let bars: Vec<Bar> = spreads(outcome, &results.entries, Measure::Cpu)
            .filter(|(entry, _)| entry.peer.role != Role::Tuned)
            .map(|(entry, s)| Bar {
                name: entry.peer.name,
                role: entry.peer.role,
                value: s.median / base,
                ends: None,
                label: format!("{:.2}", s.median / base),
            })
            .collect();
        let _ = writeln!(
            body,
            "<text class=\"title\" x=\"0\" y=\"{:.0}\">{}</text>",
            y + 12.0,
            outcome.scenario.name
        );
        y = draw(&mut body, &bars, y + 20.0, CUT) + 10.0;
        any = true;
    }
    let x = LEFT + (RIGHT - LEFT) / CUT;
    let _ =
        writeln!(body, "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.0}\" y2=\"{y:.0}\"/>");
    any.then(|| whole(title, y, &body))
}

fn spreads<'a>(
    outcome: &'a Outcome,
    entries: &'a [Entry],
    measure: Measure,
) -> impl Iterator<Item = (&'a Entry, Spread)> {
    entries.iter().zip(&outcome.runs).filter_map(move |(entry, runs)| Some((entry, spread(runs, measure)?)))
}

/// Writes title and subtitle; answers where to go on.
fn heading(out: &mut String, title: &str, below: &str) -> f64 {
    let _ = writeln!(out, "<text class=\"title\" x=\"0\" y=\"16\">{}</text>", escape(title));
    let _ = writeln!(out, "<text class=\"small\" x=\"0\" y=\"34\">{}</text>", escape(below));
    46.0
}

/// Draws bars from `y` downwards, the longest possible for `most`; answers where to go on.
fn draw(out: &mut String, bars: &[Bar], mut y: f64, most: f64) -> f64 {
    let x = |value: f64| LEFT + (RIGHT - LEFT) * (value / most).clamp(0.0, 1.0);
    for bar in bars {
        let class = match bar.role {
            Role::Ours => "ours",
            Role::Floor => "floor",
            Role::Reference | Role::Tuned | Role::Other | Role::Cache => "peer",
        };
        let (end, text) = (x(bar.value), y + BAR - 4.0);
        let name = escape(bar.name);
        let _ =
            writeln!(out, "<text x=\"{:.0}\" y=\"{text:.0}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0);
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{LEFT:.0}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{BAR:.0}\" rx=\"2\"/>",
            (end - LEFT).max(1.0)
        );
        let mut behind = end;
        if let Some((least, most)) = bar.ends {
            let (from, to, middle) = (x(least), x(most), y + BAR / 2.0);
            let _ = writeln!(
                out,
                "<line class=\"line\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>"
            );
            behind = to.max(end);
        }
        let cut = if bar.value > most { " →" } else { "" };
        let label = escape(&bar.label);
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{text:.0}\">{label}{cut}</text>", behind + 6.0);
        y += STEP;
    }
    y
}

fn whole(title: &str, height: f64, body: &str) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" width=\"{WIDTH:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n{STYLE}\n{body}</svg>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{results, runs};

    /// The width of the bar drawn behind a name.
    fn width(svg: &str, name: &str) -> f64 {
        let rest = svg.split_once(&format!(">{name}</text>")).unwrap().1;
        let (_, rest) = rest.split_once("width=\"").unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    }

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let all = results(runs(6.0, 0));
        let svg = scenario(&all.outcomes[0], &all.entries).unwrap();
        assert!((width(&svg, "haproxy") - (RIGHT - LEFT)).abs() < 0.1, "{svg}");
        assert!((width(&svg, "portcullis") - (RIGHT - LEFT) / 2.0).abs() < 0.1, "{svg}");
        assert!(svg.contains("class=\"ours\"") && svg.contains(">6.00</text>"), "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn the_overview_is_in_multiples_and_cut() {
        let all = results(runs(40.0, 0));
        let svg = overview(&all).unwrap();
        assert!(svg.contains(">4.00 →</text>") && svg.contains(">1.20</text>"), "{svg}");
        assert!((width(&svg, "portcullis") - (RIGHT - LEFT)).abs() < 0.1);
        assert!((width(&svg, "nginx") - (RIGHT - LEFT) / CUT).abs() < 0.1);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let mut all = results(Vec::new());
        all.outcomes[0].runs.iter_mut().for_each(Vec::clear);
        assert!(scenario(&all.outcomes[0], &all.entries).is_none());
        assert!(overview(&all).is_none());
    }

    #[test]
    fn what_xml_reserves_is_escaped() {
        assert_eq!(escape("a<b> & \"c\""), "a&lt;b&gt; &amp; &quot;c&quot;");
    }
}
