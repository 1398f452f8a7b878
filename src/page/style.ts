/** @file Style sheet of the pages: light and dark, wide and narrow, on screen and on paper. */

/** Classes of a heat map, from least to greatest. */
export const HEATS = 7

/** Background and text of the classes of a heat map, in light and in dark. More is farther from the page. */
const HEAT_COLORS: Readonly<Record<'light' | 'dark', readonly (readonly [back: string, ink: string])[]>> = {
  light: [
    ['#f1f4f8', '#1b2430'],
    ['#dbe5f1', '#1b2430'],
    ['#bdd1e8', '#1b2430'],
    ['#94b6db', '#10202f'],
    ['#6394c6', '#ffffff'],
    ['#3a6ea8', '#ffffff'],
    ['#1f4679', '#ffffff'],
  ],
  dark: [
    ['#1c232c', '#c9d3df'],
    ['#1f3147', '#c9d3df'],
    ['#244263', '#dbe5f1'],
    ['#2e5a88', '#ffffff'],
    ['#4680b5', '#ffffff'],
    ['#7aa9d8', '#0d1620'],
    ['#bcd6f0', '#0d1620'],
  ],
}

const heatVariables = (mode: 'light' | 'dark'): string =>
  HEAT_COLORS[mode].map(([back, ink], i) => `--heat${i}:${back};--ink${i}:${ink}`).join(';')

export const STYLE: string = `
:root{color-scheme:light dark;--page:#fbfbf9;--card:#fff;--ink:#1b2430;--soft:#5b6673;--line:#e1e4e8;--accent:#2b62a8;--before:#9aa5b1;--warm:#b4551d;--early:#a9c3e2;--late:#17406f;${heatVariables('light')}}
@media(prefers-color-scheme:dark){:root{--page:#12161b;--card:#181d24;--ink:#e6eaef;--soft:#9ba7b4;--line:#2b323b;--accent:#7fb0e8;--before:#76828f;--warm:#e79a66;--early:#35577d;--late:#cfe3fa;${heatVariables('dark')}}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",Arial,sans-serif}
a{color:var(--accent)}
.skip{position:absolute;left:-999rem}
.skip:focus{left:1rem;top:1rem;padding:.5rem 1rem;background:var(--card);border-radius:6px;z-index:1}
header,main,footer{max-width:1080px;margin:0 auto;padding:0 clamp(1rem,4vw,2.5rem)}
header{padding-top:clamp(1.75rem,5vw,3.25rem)}
h1{font-size:clamp(1.5rem,4.5vw,2.15rem);line-height:1.2;margin:0 0 .6rem;letter-spacing:-.015em;overflow-wrap:anywhere;font-weight:650}
.kind{margin:0 0 .4rem;color:var(--soft);font-size:.875rem}
.lead{margin:0;max-width:44rem;font-size:1.08rem;color:var(--ink)}
nav ul{display:flex;flex-wrap:wrap;gap:.35rem 1.25rem;list-style:none;margin:1.5rem 0 0;padding:.75rem 0 0;border-top:1px solid var(--line);font-size:.9rem}
nav a{text-decoration:none}
nav a:hover{text-decoration:underline}
section{margin:2.75rem 0 0}
h2{font-size:1.25rem;line-height:1.3;margin:0 0 .35rem;letter-spacing:-.005em;font-weight:650}
h3{font-size:1rem;margin:1.5rem 0 .35rem;font-weight:600}
.says{margin:0 0 1rem;max-width:46rem;color:var(--soft)}
figure,.card{margin:0 0 1rem;padding:1.1rem 1.25rem .35rem;background:var(--card);border:1px solid var(--line);border-radius:10px}
h3+figure{margin-top:.6rem}
.card{padding-bottom:.5rem}
.scroll{overflow-x:auto;border-radius:4px}
.scroll:focus-visible,summary:focus-visible,a:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
svg.plot{display:block;height:auto;overflow:visible}
svg.plot text{white-space:pre}
.pair{display:flex;flex-wrap:wrap;gap:1rem 2.5rem}
.twin{display:flex;flex-wrap:wrap;gap:0 1.25rem}
.twin>div{flex:1 1 24rem;min-width:0}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.85rem;color:var(--soft);margin-bottom:.7rem}
.key{display:inline-flex;align-items:center;gap:.45rem}
.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:50%}
.key i.before{border:2px solid var(--before)}
.key i.after{background:var(--accent)}
.key i.bar{background:var(--accent);border-radius:2px}
.key i.line{height:2px;border-radius:0;background:var(--warm);width:1.2rem}
.key i.box{height:.5rem;width:1.2rem;border-radius:2px;background:var(--accent);opacity:.35}
.key i.whisker{height:2px;width:1.2rem;border-radius:0;background:var(--before)}
.key i.ramp{width:5rem;height:.6rem;border-radius:2px;background:linear-gradient(to right,var(--early),var(--late))}
${Array.from({ length: HEATS }, (_, i) => `.key i.heat${i}{border-radius:2px;background:var(--heat${i});box-shadow:inset 0 0 0 1px var(--line)}`).join('\n')}
details{border-top:1px solid var(--line);margin-top:.8rem}
summary{cursor:pointer;padding:.6rem 0;color:var(--soft);font-size:.9rem}
summary:hover{color:var(--ink)}
details[open] summary{margin-bottom:.25rem}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;min-width:100%;margin-bottom:.75rem}
th,td{padding:.38rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;font-weight:400}
th:first-child,td:first-child{padding-left:0}
thead th{color:var(--soft);font-weight:500;vertical-align:bottom}
th.text,td.text{text-align:left}
.tiles{display:flex;flex-wrap:wrap;gap:1px;margin:1.75rem 0 0;background:var(--line);border:1px solid var(--line);border-radius:10px;overflow:hidden}
.tiles div{flex:1 1 9.5rem;background:var(--card);padding:.9rem 1.1rem}
.tiles dt{font-size:.85rem;color:var(--soft)}
.tiles dd{margin:.1rem 0 0;font-size:1.5rem;font-weight:600;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.tiles small{display:block;font-size:.82rem;font-weight:400;letter-spacing:0;color:var(--soft)}
.facts{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.45rem 1.75rem;margin:.5rem 0 0;font-size:.925rem}
.facts dt{color:var(--soft)}
.facts dd{margin:0;overflow-wrap:anywhere}
code{font:.875em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}
.argument{display:inline-block;margin-right:.6em}
ul.notes{margin:.5rem 0 0;padding-left:1.15rem;max-width:50rem}
ul.notes li{margin:.25rem 0;overflow-wrap:anywhere}
footer{margin-top:3rem;padding-bottom:2.5rem;color:var(--soft);font-size:.85rem}
@media(max-width:520px){.facts{grid-template-columns:1fr;gap:0}.facts dd{margin-bottom:.7rem}figure{padding:.9rem .9rem .2rem}.tiles dd{font-size:1.25rem}}
@media print{details{display:none}figure,.tiles{break-inside:avoid}nav,.skip{display:none}}
`
