"""The pages: texts in two languages, the frame of every page, the live stream. Routes stay in `api.routes`."""
