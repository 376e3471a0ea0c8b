// An element with its properties and children; a name that is no property is an attribute.

export const element = (tag, properties = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (name in node) node[name] = value;
        else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
};
