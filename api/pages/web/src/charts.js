// The charts of one meter. Drawn on canvas, with tooltips on canvas too: nothing inline that the policy would refuse.
import * as echarts from "echarts/core";
import { BarChart, HeatmapChart, LineChart } from "echarts/charts";
import { AriaComponent, DataZoomComponent, GridComponent, TooltipComponent, VisualMapComponent } from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

echarts.use([BarChart, HeatmapChart, LineChart, AriaComponent, DataZoomComponent, GridComponent, TooltipComponent,
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

const bars = (id, series) => draw(id, {
  xAxis: { type: "category", data: series.map((cell) => cell.at), axisLabel: { color: resolved("muted"), hideOverlap: true } },
  yAxis: axis(),
  dataZoom: series.length > 120 ? [{ type: "inside" }] : [],
  series: [{
    type: "bar",
    large: series.length > 1000,
    data: series.map((cell) => ({ value: cell.value === null ? null : Number(cell.value),
      itemStyle: { color: resolved(cell.mark ? "attention" : "series") } })),
  }],
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
  bars("chart-day", data.days);
  bars("chart-hour", data.hours);
  bars("chart-month", data.months);
  heat("chart-heat", data.heat, data.unit);
  place.dataset.drawn = "true";
};

addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
load();
