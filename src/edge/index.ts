// The entry of the edge: the app and the three kinds of object, nothing else.
import { app } from "./app.ts";

export { Channel } from "./objects/channel.ts";
export { Directory } from "./objects/directory.ts";
export { Gateway } from "./objects/gateway.ts";

export default app;
