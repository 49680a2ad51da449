// The charts of one meter. Drawn on canvas, with tooltips on canvas too: nothing inline that the policy would refuse.
import * as echarts from "echarts/core";
import { BarChart, HeatmapChart, LineChart } from "echarts/charts";
import { AriaComponent, DataZoomComponent, GridComponent, MarkAreaComponent, TooltipComponent, VisualMapComponent } from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

echarts.use([BarChart, HeatmapChart, LineChart, AriaComponent, DataZoomComponent, GridComponent, MarkAreaComponent, TooltipComponent,
  VisualMapComponent, CanvasRenderer]);

const charts = new Map();
// a custom property may hold light-dark(): an element resolves it
const resolved = (name) => {
  const probe = document.getElementById("probe");
  probe.className = `probe-${name}`;
  return getComputedStyle(probe).color;
};

const base = () => ({
  animation: false,
  aria: { enabled: true },
  textStyle: { color: resolved("text"), fontFamily: "inherit" },
  tooltip: { renderMode: "richText", confine: true },
  grid: { left: 8, right: 40, top: 12, bottom: 8, containLabel: true },
});

const draw = (id, option) => {
  const place = document.getElementById(id);
  if (!place) return;
  place.hidden = false;
  const chart = charts.get(id) ?? echarts.init(place, null, { renderer: "canvas" });
  charts.set(id, chart);
  chart.setOption({ ...base(), ...option }, true);
};

const axis = () => ({ type: "value", axisLabel: { color: resolved("muted") },
  splitLine: { lineStyle: { color: resolved("line") } } });

// runs of cells without a number, as grey stretches
const gaps = (series) => {
  const found = [];
  series.forEach((cell, place) => {
    if (cell.value !== null) return;
    const last = found.at(-1);
    if (last && last.to === place - 1) last.to = place;
    else found.push({ from: place, to: place });
  });
  return found.map((gap) => [{ xAxis: gap.from }, { xAxis: gap.to }]);
};

const words = document.getElementById("charts")?.dataset ?? {};
const told = (series, unit) => (at) => {
  const cell = series[at.dataIndex];
  const lines = [`${cell.at}  ${cell.value === null ? words.gap : `${cell.value} ${unit}`}`];
  if (cell.index) lines.push(`${words.index} ${cell.index} ${unit}`);
  return lines.join("\n");
};

const bars = (id, series, unit) => draw(id, {
  xAxis: { type: "category", data: series.map((cell) => cell.at), axisLabel: { color: resolved("muted"), hideOverlap: true } },
  yAxis: axis(),
  dataZoom: series.length > 120 ? [{ type: "inside" }] : [],
  tooltip: { renderMode: "richText", confine: true, formatter: told(series, unit) },
  series: [{
    type: "bar",
    data: series.map((cell) => ({ value: cell.value === null ? null : Number(cell.value),
      itemStyle: { color: resolved(cell.mark ? "attention" : "series") } })),
    markArea: { silent: true, itemStyle: { color: resolved("line"), opacity: 0.45 }, data: gaps(series) },
  }],
});

const line = (id, series, unit) => draw(id, {
  xAxis: { type: "category", data: series.map((cell) => cell.at), axisLabel: { color: resolved("muted"), hideOverlap: true } },
  yAxis: { ...axis(), scale: true },
  tooltip: { renderMode: "richText", confine: true, trigger: "axis", formatter: (at) => told(series, unit)(at[0]) },
  series: [{ type: "line", showSymbol: false, connectNulls: false, lineStyle: { color: resolved("series") },
    data: series.map((cell) => (cell.index === null ? null : Number(cell.index))) }],
});

const heat = (id, map, unit) => {
  const values = map.cells.map((cell) => Number(cell[2]));
  const most = values.length ? Math.max(...values, 1e-9) : 1;
  draw(id, {
    xAxis: { type: "category", data: map.hours, axisLabel: { color: resolved("muted") } },
    yAxis: { type: "category", data: map.days, inverse: true, axisLabel: { color: resolved("muted") } },
    visualMap: { show: false, min: 0, max: most, inRange: { color: [resolved("panel"), resolved("series")] } },
    series: [{ type: "heatmap", data: map.cells.map((cell) => [cell[0], cell[1], Number(cell[2])]),
      itemStyle: { borderColor: resolved("line"), borderWidth: 1 } }],
    tooltip: { renderMode: "richText", confine: true,
      formatter: (at) => `${map.days[at.value[1]]} ${map.hours[at.value[0]]}:00  ${at.value[2]} ${unit}` },
  });
};

const load = async () => {
  const place = document.getElementById("charts");
  if (!place) return;
  const answer = await fetch(place.dataset.source, { headers: { accept: "application/json" } });
  if (!answer.ok) { document.getElementById("charts-missing").hidden = false; return; }
  const data = await answer.json();
  bars("chart-day", data.days, data.unit);
  bars("chart-hour", data.hours, data.unit);
  bars("chart-month", data.months, data.unit);
  bars("chart-night", data.nights, data.unit);
  line("chart-index", data.days, data.unit);
  heat("chart-heat", data.heat, data.unit);
  place.dataset.drawn = "true";
};

addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
load();
